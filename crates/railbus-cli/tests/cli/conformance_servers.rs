//! `railbus conformance` on servers: all backends, control, and what goes wrong.

use super::{PATIENCE, Ran, Scene, documents, text};
use railbus_testbed::{Nats, Postgres, Redis};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

/// Writes a program that pauses and resumes that process, and can do nothing else.
fn control(scene: &Scene, pid: u32) {
    let script = format!(
        "#!/bin/sh\necho $1 >>asked\ncase $1 in\npause) kill -STOP {pid} ;;\n\
         resume) kill -CONT {pid} ;;\n*) exit 3 ;;\nesac\n"
    );
    executable(scene, "control.sh", &script);
}

fn executable(scene: &Scene, name: &str, script: &str) {
    scene.write(name, script);
    fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn each_shows_what_it_claims_and_refuses_the_rest() {
    let scene = Scene::new();
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let nats = Nats::start().unwrap();
    let urls = [
        "memory:".to_owned(),
        "sqlite:c.db".to_owned(),
        nats.url(),
        redis.url("redis"),
        redis.url("redis-streams"),
        postgres.url("postgres"),
        postgres.url("postgres-queue"),
    ];
    for url in urls {
        let cases = ["--case", "two groups", "--case", "close", "--case", "what is not claimed"];
        let ran = scene.run(&[&["conformance", &url, "--json"][..], &cases[..]].concat());
        assert_eq!(ran.code, 0, "{url}: {}\n{}", ran.out, ran.err);
        let [document] = &documents(&ran.out)[..] else { panic!("{}", ran.out) };
        let statuses: Vec<_> = document["cases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|case| (text(case, "name"), text(case, "status")))
            .collect();
        let groups = !url.starts_with("redis:") && !url.starts_with("postgres:");
        let of_groups = if groups { "passed" } else { "refused" };
        let expected =
            [("two groups", of_groups), ("close", "passed"), ("what is not claimed", "passed")];
        assert_eq!(statuses, expected, "{url}");
        assert!(ran.err.contains("3 of 3: "), "{}", ran.err);
    }
}

#[test]
fn a_server_is_paused_by_the_command_and_a_command_that_fails_is_a_case_that_failed() {
    let scene = Scene::new();
    let redis = Redis::start().unwrap();
    control(&scene, redis.pid().unwrap());
    let url = redis.url("redis-streams");
    let paused = ["--case", "server paused"];
    let without = scene.run(&[&["conformance", &url][..], &paused[..]].concat());
    assert_eq!(without.code, 0, "{}", without.err);
    assert!(
        without.out.contains("not run") && without.out.contains("--control"),
        "{}",
        without.out
    );
    let run = |cases: &[&str]| {
        let control = ["--control", "./control.sh"];
        scene.run(&[&["conformance", &url][..], &control[..], cases].concat())
    };
    let ran = run(&paused);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("redis-streams: 1 passed, 0 failed"), "{}", ran.err);
    assert!(asked(&scene).starts_with("pause\nresume\n"), "{}", asked(&scene));
    // It can't be stopped: the case says so, and the one beside it passes.
    let ran = run(&["--case", "server restarted", "--case", "two groups"]);
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("redis-streams: 1 passed, 1 failed"), "{}", ran.err);
    let failed = ran.out.lines().find(|line| line.contains("server restarted")).unwrap();
    for part in ["failed", "control.sh"] {
        assert!(failed.contains(part), "no {part} in {failed}");
    }
}

/// Returns what was asked of the program that controls the server.
fn asked(scene: &Scene) -> String {
    fs::read_to_string(scene.path("asked")).unwrap_or_default()
}

/// Runs the suite until the server was asked for something, and then interrupts it and all that it
/// started, as a terminal does.
fn interrupted(scene: &Scene, args: &[&str], at: &str, signal: Signal) -> Ran {
    let mut command = scene.command(&[&["conformance"], args].concat());
    let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let began = Instant::now();
    while !asked(scene).ends_with(at) && began.elapsed() < PATIENCE {
        // sleep: a file says nothing when it is written.
        sleep(Duration::from_millis(5));
    }
    kill_process_group(Pid::from_child(&child), signal).unwrap();
    let ran = child.wait_with_output().unwrap().into();
    assert!(began.elapsed() < PATIENCE, "nobody asked for {at}: {ran:?}");
    ran
}

#[test]
fn a_server_that_stands_still_goes_on_before_an_interrupted_run_ends() {
    let scene = Scene::new();
    let redis = Redis::start().unwrap();
    control(&scene, redis.pid().unwrap());
    let url = redis.url("redis-streams");
    let cases = ["--control", "./control.sh", "--case", "server paused", "--case", "two groups"];
    let args = [&[&*url, "--json"][..], &cases].concat();
    let ran = interrupted(&scene, &args, "pause\n", Signal::INT);
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert_eq!(asked(&scene), "pause\nresume\n");
    assert_eq!(redis.command(&["PING"]).unwrap(), "PONG");
    // One that it left behind would hold up what is trimmed.
    let groups = scene.run(&["groups", "ls", &url]);
    assert!(groups.err.contains("has no groups"), "{}", groups.err);
    let [document] = &documents(&ran.out)[..] else { panic!("{}", ran.out) };
    let cases = document["cases"].as_array().unwrap();
    let statuses: Vec<_> = cases.iter().map(|case| text(case, "status")).collect();
    assert_eq!(statuses, ["passed", "not_run"], "{document}");
}

#[test]
fn whatever_was_done_to_a_server_is_undone_whichever_signal_comes() {
    let undone = [("restarted", "stop", "start"), ("killed", "kill", "start")];
    for (case, done, undone) in undone {
        let scene = Scene::new();
        // It takes its time, in which a signal to its group would end it.
        let script = "#!/bin/sh\necho \"$1 $2\" >>asked\nsleep 0.3\necho \"did $2\" >>asked\n";
        executable(&scene, "a control.sh", script);
        let case = format!("server {case}");
        // In a folder of that name, with an argument of its own.
        let control = ["--control", "'./a control.sh' it", "--case", &case];
        let args = [&["sqlite:c.db"][..], &control].concat();
        let ran = interrupted(&scene, &args, &format!("it {done}\n"), Signal::TERM);
        assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
        let expected = format!("it {done}\ndid {done}\nit {undone}\ndid {undone}\n");
        assert_eq!(asked(&scene), expected);
        assert!(ran.out.contains("the run was given up"), "{}", ran.out);
        let groups = scene.run(&["groups", "ls", "sqlite:c.db"]);
        assert!(groups.err.contains("has no groups"), "{}", groups.err);
    }
}

#[test]
fn what_is_not_there_is_an_error_and_a_case_that_is_not_names_the_nearest() {
    let scene = Scene::new();
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for scheme in ["nats", "redis", "redis-streams", "postgres", "postgres-queue"] {
        let database = if scheme == "nats" { "" } else { "/0" };
        let url = format!("{scheme}://127.0.0.1:{port}{database}?connect_timeout=2s");
        let error = scene.broken(&["conformance", &url]);
        assert!(error.contains(&port.to_string()), "{scheme}: {error}");
    }
    let error = scene.broken(&["conformance", "memory:", "--case", "stale acks"]);
    assert!(error.contains("did you mean `stale ack`?"), "{error}");
}
