//! What runs around the pipeline of a subscription, in the program.

use crate::scene::{APP, Ended, Scene};
use std::time::{Duration, Instant};

fn app(layers: &str) -> String {
    format!("{APP}{layers}\n")
}

fn lines(orders: &[&str]) -> String {
    orders.iter().map(|order| format!("{{\"type\":\"a\",\"order\":\"{order}\"}}\n")).collect()
}

#[test]
fn what_is_the_same_is_handled_once_also_by_the_next_run() {
    let dedup = app("dedup = { by = \"order\", window = \"1h\", shared = true }");
    let note = "cat >> noted; echo >> noted";
    let scene = Scene::new(&dedup, lines(&["1", "2", "1", "1"]), note);
    scene.run().expect(0, &[("published", 4), ("succeeded", 4), ("runs", 2)]);
    scene.write("in.ndjson", lines(&["1", "2", "1", "1", "2", "3"]));
    scene.run().expect(0, &[("published", 2), ("succeeded", 2), ("runs", 1)]);
    assert_eq!(scene.read("noted").matches("order").count(), 3);
}

#[test]
fn what_failed_is_not_taken_for_done() {
    let dedup =
        app("dedup = true").replace("max_attempts = 1", "max_attempts = 3, backoff_factor = 0.01");
    let scene = Scene::new(&dedup, lines(&["1"]), "echo x >> noted; [ $(wc -l < noted) = 3 ]");
    scene.run().expect(0, &[("succeeded", 1), ("retried", 1), ("runs", 3)]);
}

#[test]
fn a_rate_is_kept_and_a_try_that_takes_too_long_is_ended() {
    let rate = app("rate = { per_second = 20, burst = 1, shared = \"r\" }");
    let scene = Scene::new(&rate, lines(&["1"; 11]), "true");
    let began = Instant::now();
    scene.run().expect(0, &[("succeeded", 11)]);
    // Two may be there at first: the one that a waiting member holds, and the one that came since.
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    let limit = app("timeout = \"300ms\"\nlog = true");
    let scene = Scene::new(&limit, lines(&["1"]), "sleep 1000");
    let mut run = scene.command(&["--until-idle"]);
    let ended = Ended::of(&run.env("RUST_LOG", "railbus=info").output().unwrap());
    ended.expect(3, &[("dead_lettered", 1)]);
    assert!(ended.said.contains("the handler took longer than 300ms"), "{}", ended.said);
}

#[test]
fn the_log_tells_of_each_try_and_of_no_payload() {
    let logged = |layers: &str, level: &str| {
        let scene = Scene::new(&app(layers), lines(&["secret-1"]), "true");
        let mut run = scene.command(&["--until-idle"]);
        let ended = Ended::of(&run.env("RUST_LOG", level).output().unwrap());
        ended.expect(0, &[("succeeded", 1)]);
        ended.said
    };
    assert!(!logged("log = false", "railbus=debug").contains("handled"));
    let said = logged("log = true", "railbus=debug");
    assert!(
        said.contains("handling") && said.contains("handled") && said.contains("seconds"),
        "{said}"
    );
    assert!(!said.contains("secret-1"), "{said}");
    let said = logged("log = { payloads = true }", "railbus=debug");
    assert!(said.contains("secret-1"), "{said}");
}
