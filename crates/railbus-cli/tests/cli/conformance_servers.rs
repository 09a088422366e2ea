//! `railbus conformance` on servers: all six backends, control, and what goes wrong.

use super::{Scene, documents, text};
use railbus_testbed::{Postgres, Redis};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

/// Writes a program that pauses and resumes that process, and can do nothing else.
fn control(scene: &Scene, pid: u32) {
    let script = format!(
        "#!/bin/sh\necho $1 >>asked\ncase $1 in\npause) kill -STOP {pid} ;;\n\
         resume) kill -CONT {pid} ;;\n*) exit 3 ;;\nesac\n"
    );
    scene.write("control.sh", script);
    fs::set_permissions(scene.path("control.sh"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn each_of_the_six_shows_what_it_claims_and_refuses_the_rest() {
    let scene = Scene::new();
    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let urls = [
        "memory:".to_owned(),
        "sqlite:c.db".to_owned(),
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
    let asked = fs::read_to_string(scene.path("asked")).unwrap();
    assert!(asked.starts_with("pause\nresume\n"), "{asked}");
    // It can't be stopped: the case says so, and the one beside it passes.
    let ran = run(&["--case", "server restarted", "--case", "two groups"]);
    assert_eq!(ran.code, 1, "{}\n{}", ran.out, ran.err);
    assert!(ran.err.contains("redis-streams: 1 passed, 1 failed"), "{}", ran.err);
    let failed = ran.out.lines().find(|line| line.contains("server restarted")).unwrap();
    for part in ["failed", "control.sh"] {
        assert!(failed.contains(part), "no {part} in {failed}");
    }
}

#[test]
fn what_is_not_there_is_an_error_and_a_case_that_is_not_names_the_nearest() {
    let scene = Scene::new();
    // Nobody listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for scheme in ["redis", "redis-streams", "postgres", "postgres-queue"] {
        let url = format!("{scheme}://127.0.0.1:{port}/0?connect_timeout=2s");
        let error = scene.broken(&["conformance", &url]);
        assert!(error.contains(&port.to_string()), "{scheme}: {error}");
    }
    let error = scene.broken(&["conformance", "memory:", "--case", "stale acks"]);
    assert!(error.contains("did you mean `stale ack`?"), "{error}");
}
