//! `railbus conformance`: a table or a document of what a backend showed.

use super::{Scene, text};

const CASES: usize = 56;

/// What is not run where there is no server.
const SERVER: [&str; 8] = [
    "wrong password",
    "reconnect",
    "reset",
    "black hole",
    "latency",
    "server restarted",
    "server killed",
    "server paused",
];

#[test]
fn sqlite_passes_every_case_and_the_seed_is_told() {
    let scene = Scene::new();
    // The processes that are killed are this program, too.
    let ran = scene.run(&["conformance", "sqlite:c.db", "--seed", "7"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.err.starts_with("seed 7: --seed 7 repeats this run"), "{}", ran.err);
    let summary = "sqlite: 48 passed, 0 failed, 0 refused, 8 not run";
    assert!(ran.err.contains(summary), "{}", ran.err);
    for part in ["case", "status", "why", "kill -9", "2 processes killed"] {
        assert!(ran.out.contains(part), "no {part} in {}", ran.out);
    }
    assert!(!ran.err.contains("a handler failed"), "{}", ran.err);
    let groups = scene.run(&["groups", "ls", "sqlite:c.db"]);
    assert!(groups.err.contains("has no groups"), "{}", groups.err);
}

#[test]
fn memory_shows_what_one_process_can_in_one_document() {
    let scene = Scene::new();
    let ran = scene.run(&["conformance", "memory:", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let keys: Vec<_> = document.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["backend", "seed", "counts", "seconds", "cases"]);
    let told = format!("seed {}: ", document["seed"]);
    assert!(ran.err.starts_with(&told), "{}", ran.err);
    assert_eq!((text(&document, "backend"), &document["counts"]["events"]), ("memory", &50.into()));
    assert!(document["seconds"].as_f64() > Some(0.0), "{}", document["seconds"]);
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(cases.len(), CASES);
    for case in cases {
        let name = text(case, "name");
        let not_run =
            ["kill -9", "clocks apart", "poison"].contains(&name) || SERVER.contains(&name);
        let refused = ["late subscriber", "positions", "journal"].contains(&name);
        let passed = if refused { "refused" } else { "passed" };
        assert_eq!(text(case, "status"), if not_run { "not_run" } else { passed }, "{case}");
        assert!(!not_run || case["why"].is_string(), "{case}");
    }
}

#[test]
fn what_cannot_be_reached_is_an_error_and_prints_no_table() {
    let scene = Scene::new();
    let error = scene.broken(&["conformance", "sqlite:no/such/folder.db"]);
    assert!(error.contains("the file's folder does not exist"), "{error}");
    assert!(scene.broken(&["conformance", "nowhere:"]).contains("there is no backend"));
    let error = scene.broken(&["conformance-member"]);
    assert!(error.contains("run `railbus conformance URL`"), "{error}");
    assert!(!scene.ok(&["help"]).contains("conformance-member"));
}

#[test]
fn the_list_says_what_each_case_needs_and_runs_none() {
    let scene = Scene::new();
    let listed = scene.json(&["conformance", "--list"]);
    let cases = listed[0]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), CASES);
    let needs = |name: &str| {
        let case = cases.iter().find(|case| text(case, "name") == name).unwrap();
        let needs = case["needs"].as_array().unwrap().iter().map(|need| need.as_str().unwrap());
        needs.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(needs("close"), "");
    assert_eq!(needs("journal"), "a journal of runs");
    assert_eq!(needs("server killed"), "control of its server (--control)");
    let table = scene.ok(&["conformance", "--list"]);
    let row = table.lines().find(|line| line.contains("dead letter ")).unwrap();
    assert!(row.contains("groups, leases, dead letters"), "{row}");
    // What is asked for beside it would not be done.
    assert_eq!(scene.run(&["conformance", "sqlite:c.db", "--list"]).code, 2);
    assert_eq!(scene.run(&["conformance"]).code, 2);
}

#[test]
fn a_patience_is_a_time_that_a_case_waits_for_what_must_happen() {
    let scene = Scene::new();
    for wrong in ["0s", "900ms", "soon"] {
        let error = scene.broken(&["conformance", "memory:", "--patience", wrong]);
        assert!(error.contains("30s"), "{wrong}: {error}");
    }
    let cases = ["--case", "two groups", "--patience", "1m"];
    scene.ok(&[&["conformance", "memory:"][..], &cases].concat());
    // A server that starts to listen, and then says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}?connect_timeout=50s", silent.local_addr().unwrap());
    let error = scene.broken(&["conformance", &url, "--patience", "1s"]);
    assert!(error.contains("within 1s"), "{error}");
}
