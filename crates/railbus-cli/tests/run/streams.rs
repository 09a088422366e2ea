//! `railbus run` on a stream of Redis: it accounts for every event, and goes on where it was killed.

use crate::scene::{Scene, tries_before_a_redrive_are_not_counted, until};
use railbus_testbed::Redis;
use rustix::process::Signal;
use std::collections::BTreeSet;

const LINES: usize = 200;

/// Each event is noted by its number.
const NOTE: &str = r#"n=$(sed 's/.*"n": *\([0-9]*\).*/\1/'); echo "$n" >> noted"#;

fn scene(redis: &Redis, step: &str) -> Scene {
    let app = crate::scene::APP
        .replace("sqlite:events.db", &redis.url("redis-streams"))
        .replace("retry =", "lease = \"1s\"\nretry =");
    let lines: String = (0..LINES).map(|n| format!("{{\"type\":\"order\",\"n\":{n}}}\n")).collect();
    Scene::new(&app, lines, step)
}

fn noted(scene: &Scene) -> BTreeSet<usize> {
    scene.read("noted").lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn an_app_on_a_stream_accounts_for_every_line() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis, &format!("{NOTE}; [ \"$((n % 10))\" -ne 9 ]"));
    let ended = scene.run();
    let (failed, all) = ((LINES / 10) as u64, LINES as u64);
    let counts = [("published", all), ("succeeded", all - failed), ("dead_lettered", failed)];
    ended.expect(3, &counts);
    assert_eq!(noted(&scene).len(), LINES);
    // Nothing is left to do, and the input is where it was.
    scene.run().expect(0, &[("published", 0), ("carried", 0), ("succeeded", 0)]);
}

#[test]
fn an_app_that_is_killed_goes_on_where_it_was() {
    let redis = Redis::options().appendonly(true).start().unwrap();
    let scene = scene(&redis, NOTE);
    let patient = scene.read("app.toml").replace("max_attempts = 1", "max_attempts = 100");
    scene.write("app.toml", patient);
    for part in 1..4 {
        let mut running = scene.start();
        until("some are handled", || noted(&scene).len() >= part * LINES / 5);
        running.signal(Signal::KILL);
        drop(running);
        if part == 2 {
            redis.kill().unwrap();
            redis.start_again().unwrap();
        }
    }
    let ended = scene.run();
    assert_eq!(noted(&scene).len(), LINES, "{ended:?}");
    // No line was stored twice, and none is open.
    assert_eq!(redis.command(&["XLEN", "events"]).unwrap(), LINES.to_string());
    assert_eq!(redis.command(&["XLEN", "{events}:dead"]).unwrap(), "0");
    scene.run().expect(0, &[("published", 0), ("carried", 0)]);
}

/// Returns how often the server was asked where the stream ends: an app that waits until it is idle
/// asks that all the time, and nobody else does while nothing is handled.
fn looks(redis: &Redis) -> u64 {
    let said = redis.command(&["INFO", "commandstats"]).unwrap();
    let calls = said.lines().find_map(|line| line.strip_prefix("cmdstat_xinfo|stream:calls="));
    calls.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn an_app_that_runs_until_idle_goes_on_when_its_server_is_started_again() {
    const ALL: usize = 20;
    let redis = Redis::options().appendonly(true).start().unwrap();
    // Handlers that hang have nothing to tell the server: all that meets its end is the look whether
    // the app is idle.
    let step = format!("{NOTE}; until [ -e go ]; do sleep 0.01; done");
    let scene = scene(&redis, &step);
    let patient = scene.read("app.toml").replace("max_attempts = 1", "max_attempts = 100");
    scene.write("app.toml", patient.replace("lease = \"1s\"", "lease = \"60s\"\nlimit = 2"));
    let lines: String = scene.read("in.ndjson").split_inclusive('\n').take(ALL).collect();
    scene.write("in.ndjson", lines);
    let mut running = scene.start_until_idle();
    until("two are being handled", || noted(&scene).len() == 2);
    let before = looks(&redis);
    until("the app looks whether it is idle", || looks(&redis) > before + 3);
    redis.stop().unwrap();
    redis.start_again().unwrap();
    until("it looks again, or is over", || looks(&redis) > 0 || running.has_ended());
    scene.write("go", "");
    let ended = running.end();
    let all = ALL as u64;
    ended.expect(0, &[("published", all), ("succeeded", all), ("dead_lettered", 0)]);
    assert_eq!(noted(&scene).len(), ALL, "{ended:?}");
}

#[test]
fn tries_of_an_earlier_run_before_a_redrive_are_not_counted() {
    let redis = Redis::start().unwrap();
    tries_before_a_redrive_are_not_counted(&redis.url("redis-streams"));
}

#[test]
fn deleting_the_keys_that_the_docs_name_starts_over() {
    let redis = Redis::start().unwrap();
    let scene = scene(&redis, "[ \"$RAILBUS_TRY\" = 0 ]");
    let dead = [("published", LINES as u64), ("dead_lettered", LINES as u64)];
    scene.run().expect(3, &dead);
    let keys = redis.command(&["KEYS", "{events}:*"]).unwrap();
    redis
        .command(&[&["UNLINK", "events"][..], &keys.lines().collect::<Vec<_>>()].concat())
        .unwrap();
    assert_eq!(redis.command(&["KEYS", "*"]).unwrap(), "");
    scene.run().expect(3, &dead);
}
