//! How a run ends: drained by a signal, at once by the second, without children by SIGKILL.

use crate::scene::{APP, Scene, until};
use rustix::process::{Pid, Signal, test_kill_process};

const LINES: &str =
    "{\"type\":\"a\",\"n\":1}\n{\"type\":\"a\",\"n\":2}\n{\"type\":\"a\",\"n\":3}\n";

/// Says its process's number, then works until it is told to go.
const SLOW: &str = "echo $$ >> begun; until [ -e go ]; do sleep 0.01; done; echo done >> noted";

fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

fn begun(scene: &Scene) -> Option<i32> {
    scene.read("begun").lines().next()?.parse().ok()
}

#[test]
fn a_signal_lets_what_runs_finish_and_starts_nothing_new() {
    for signal in [Signal::TERM, Signal::INT] {
        let scene = Scene::new(&format!("{APP}limit = 1\n"), LINES, SLOW);
        let mut running = scene.start();
        until("a step runs", || begun(&scene).is_some());
        running.signal(signal);
        until("it drains", || scene.read("said").contains("finishing what has begun"));
        scene.write("go", "");
        let ended = running.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let done = scene.read("noted").lines().count() as u64;
        assert_eq!(ended.count("succeeded"), done, "{ended:?}");
        // Nothing burned an attempt: the rest is handled by the next run, at its first try.
        let next = scene.run();
        next.expect(0, &[("carried", 3 - done), ("succeeded", 3 - done), ("retried", 0)]);
    }
}

#[test]
fn a_second_signal_stops_at_once_and_loses_nothing() {
    let app =
        format!("{APP}lease = \"1s\"\nlimit = 1\n").replace("max_attempts = 1", "max_attempts = 5");
    let scene = Scene::new(&app, LINES, SLOW);
    let mut running = scene.start();
    until("a step runs", || begun(&scene).is_some());
    let step = begun(&scene).unwrap();
    running.signal(Signal::TERM);
    until("it drains", || scene.read("said").contains("finishing what has begun"));
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(scene.read("said").contains("stopped at once"));
    until("the step is gone", || !is_alive(step));
    scene.write("go", "");
    scene.run().expect(0, &[("succeeded", 3)]);
}

#[test]
fn a_killed_program_leaves_no_child() {
    let scene = Scene::new(&format!("{APP}lease = \"1s\"\n"), LINES, SLOW);
    let mut running = scene.start();
    until("a step runs", || begun(&scene).is_some());
    let step = begun(&scene).unwrap();
    running.signal(Signal::KILL);
    running.end();
    until("the step is gone", || !is_alive(step));
}

#[test]
fn what_can_not_start_says_why_and_ends_with_1() {
    let scene = Scene::new(APP, LINES, "exit 0");
    for (app, said) in [
        ("", "nothing to run"),
        ("[[on]]\ntype = \"a\"\npipelin = \"x\"\n", "did you mean `pipeline`"),
        ("bus.url = \"memory:\"\nbus.url = \"memory:\"\n", "app.toml:2:"),
    ] {
        scene.write("app.toml", app);
        let ended = scene.run();
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.said.contains(said), "{app:?}: {}", ended.said);
    }
    std::fs::remove_file(scene.path("app.toml")).unwrap();
    std::fs::create_dir(scene.path("app.toml")).unwrap();
    let ended = scene.run();
    assert_eq!(ended.code, Some(1));
    assert!(ended.said.contains("app.toml"), "{ended:?}");
}
