//! An app on a queue in PostgreSQL: its inputs, its pipeline and its accounts, with programs that are
//! killed and a server that is.

use crate::scene::{APP, Ended, Scene, tries_before_a_redrive_are_not_counted, until};
use railbus_testbed::Postgres;
use rustix::process::Signal;
use std::{collections::BTreeMap, fmt::Write as _};

/// Notes which event it had, with its payload.
const NOTE: &str = "read -r it; echo \"$RAILBUS_EVENT_ID $it\" >> noted";

fn lines(numbers: std::ops::Range<u32>) -> String {
    numbers.fold(String::new(), |mut all, n| {
        let _ = writeln!(all, "{{\"type\":\"a\",\"n\":{n}}}");
        all
    })
}

fn scene(url: &str, lines: &str, step: &str) -> Scene {
    Scene::new(&APP.replace("sqlite:events.db", url), lines, step)
}

/// Returns how often each line was handled.
fn noted(scene: &Scene) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for line in scene.read("noted").lines() {
        *all.entry(line.to_owned()).or_default() += 1;
    }
    all
}

fn add_up(ended: &[&Ended], key: &str) -> u64 {
    ended.iter().map(|ended| ended.count(key)).sum()
}

#[test]
fn an_app_goes_on_where_its_inputs_were_whoever_starts_it_again() {
    let server = Postgres::options().fsync(true).start().unwrap();
    let scene = scene(&server.database().unwrap().url("postgres-queue"), &lines(0..20), NOTE);
    scene.run().expect(0, &[("published", 20), ("succeeded", 20), ("carried", 0)]);
    scene.run().expect(0, &[("published", 0), ("succeeded", 0), ("carried", 0)]);
    scene.write("in.ndjson", lines(0..25) + "no json\n" + &lines(25..30));
    scene.run().expect(3, &[("published", 11), ("succeeded", 10), ("dead_lettered", 1)]);
    server.kill().unwrap();
    server.start_again().unwrap();
    scene.run().expect(0, &[("published", 0), ("succeeded", 0), ("carried", 0)]);
    let noted = noted(&scene);
    assert_eq!((noted.len(), noted.values().max()), (30, Some(&1)), "{noted:?}");
    // What was read is not what was there: nothing is read on.
    scene.write("in.ndjson", lines(5..6));
    let ended = scene.run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn a_program_that_is_killed_leaves_its_events_to_the_next_and_reads_no_line_twice() {
    let server = Postgres::start().unwrap();
    let url = server.database().unwrap().url("postgres-queue");
    let step = format!("{NOTE}; until [ -e go ]; do sleep 0.01; done");
    let scene = scene(&url, &lines(0..40), &step);
    let app = scene.read("app.toml") + "lease = \"1s\"\nlimit = 2\n";
    scene.write("app.toml", app.replace("max_attempts = 1", "max_attempts = 5"));
    let mut running = scene.start();
    until("two steps run", || noted(&scene).len() == 2);
    running.signal(Signal::KILL);
    running.end();
    scene.write("go", "");
    let ended = scene.run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(add_up(&[&ended], "succeeded"), 40, "{ended:?}");
    let ids: std::collections::BTreeSet<_> =
        noted(&scene).keys().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 40, "each line is one event");
}

#[test]
fn an_app_goes_on_when_its_server_is_killed_under_it_again_and_again() {
    let server = Postgres::options().fsync(true).start().unwrap();
    let url = server.database().unwrap().url("postgres-queue");
    let scene = scene(&format!("{url}?statement_timeout=3s"), &lines(0..400), NOTE);
    let app = scene.read("app.toml") + "lease = \"1s\"\n";
    scene.write("app.toml", app.replace("max_attempts = 1", "max_attempts = 9"));
    let running = scene.start_until_idle();
    for goal in [20, 120, 220] {
        until("some are handled", || noted(&scene).len() >= goal);
        server.kill().unwrap();
        server.start_again().unwrap();
    }
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{ended:?} {}", scene.read("said"));
    ended.expect(0, &[("published", 400), ("succeeded", 400), ("dead_lettered", 0)]);
    assert_eq!(noted(&scene).len(), 400);
    scene.run().expect(0, &[("published", 0), ("carried", 0)]);
}

#[test]
fn what_keeps_an_app_from_its_server_is_said_at_once() {
    let server = Postgres::options().password("secret").start().unwrap();
    let database = server.database().unwrap();
    let good = database.url("postgres-queue");
    for (url, why) in [
        (good.replace("secret", "hunter2"), "the password is wrong"),
        (good.replace(database.name(), "no_where"), "the database does not exist"),
        (database.url("postgres"), "groups"),
    ] {
        let ended = scene(&url, &lines(0..1), NOTE).run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.said.contains(why), "{ended:?}");
        assert!(!ended.said.contains("hunter2") && !ended.said.contains("secret"), "{ended:?}");
    }
}

#[test]
fn tries_of_an_earlier_run_before_a_redrive_are_not_counted() {
    let server = Postgres::start().unwrap();
    tries_before_a_redrive_are_not_counted(&server.database().unwrap().url("postgres-queue"));
}

#[test]
fn dropping_the_schema_starts_over() {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let scene = scene(&database.url("postgres-queue"), &lines(0..10), "exit 1");
    let dead = [("published", 10), ("dead_lettered", 10), ("carried", 0)];
    scene.run().expect(3, &dead);
    database.psql("DROP SCHEMA railbus CASCADE").unwrap();
    scene.run().expect(3, &dead);
}
