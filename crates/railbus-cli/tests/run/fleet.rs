//! Several programs with one schedule on one file.

use crate::scene::{Running, Scene, until};
use rusqlite::Connection;
use rustix::process::Signal;
use std::{
    collections::{HashMap, HashSet},
    fs::File,
};

/// Each tick is put down by whoever handles it.
const APP: &str = r#"
bus.url = "sqlite:events.db"
[[input]]
name = "beat"
INPUT
type = "tick"
missed = "all"
[steps.note]
command = ["./step.sh"]
[pipelines.all]
flow = "note"
[[on]]
type = "tick"
group = "workers"
pipeline = "all"
"#;

const NOTE: &str = "cat > /dev/null; echo \"$RAILBUS_EVENT_ID $PPID\" >> noted";

/// What each of them says is in a file of its own.
const NAMES: [&str; 3] = ["one", "two", "three"];

fn start(scene: &Scene, name: &str) -> Running {
    let said = File::create(scene.path(name)).unwrap();
    Running(Some(scene.command(&[]).stderr(said).spawn().unwrap()))
}

/// Runs three programs until so many ticks were handled, and looks at what is stored and done.
fn fleet(input: &str, ticks: usize) {
    let scene = Scene::new(&APP.replace("INPUT", input), "", NOTE);
    let mut programs: Vec<Running> = NAMES.map(|name| start(&scene, name)).into();
    // From there on a signal drains.
    let runs = |name: &&str| scene.read(name).contains("running on");
    until("all three run", || NAMES.iter().all(runs));
    until("so many ticks were handled", || scene.read("noted").lines().count() >= ticks);
    for program in &mut programs {
        program.signal(Signal::TERM);
    }
    let mut handled = 0;
    for program in programs {
        let ended = program.end();
        assert_eq!(ended.code, Some(0), "{ended:?} {:?}", NAMES.map(|name| scene.read(name)));
        assert_eq!((ended.count("failed"), ended.count("dead_lettered")), (0, 0), "{ended:?}");
        handled += ended.count("runs") as usize;
    }
    let store = Connection::open(scene.path("events.db")).unwrap();
    let mut events = store.prepare("SELECT id FROM events ORDER BY seq").unwrap();
    let events = events.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let events: Vec<String> = events.map(Result::unwrap).collect();
    let ids: HashSet<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(ids.len(), events.len(), "a tick is two events");
    let noted = scene.read("noted");
    let mut times: HashMap<&str, usize> = HashMap::new();
    for line in noted.lines() {
        *times.entry(line.split(' ').next().unwrap()).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "a tick was handled twice: {times:?}");
    assert!(times.keys().all(|id| ids.contains(id)), "handled, but not stored");
    assert_eq!(noted.lines().count(), handled, "the programs count what was done");
}

#[test]
fn three_programs_handle_each_tick_of_an_interval_once() {
    fleet("kind = \"interval\"\nevery = \"50ms\"", 40);
}

#[test]
fn three_programs_handle_each_tick_of_a_cron_expression_once() {
    fleet("kind = \"cron\"\ncron = \"* * * * * *\"", 3);
}
