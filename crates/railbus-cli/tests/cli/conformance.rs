//! `railbus conformance`: a table or a document of what a backend showed.

use super::{Scene, text};

const CASES: usize = 55;

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
    let summary = "sqlite: 47 passed, 0 failed, 0 refused, 8 not run";
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
    assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>(), ["cases"]);
    let cases = document["cases"].as_array().unwrap();
    assert_eq!(cases.len(), CASES);
    for case in cases {
        let name = text(case, "name");
        let not_run =
            ["kill -9", "clocks apart", "poison"].contains(&name) || SERVER.contains(&name);
        let refused = ["late subscriber", "positions"].contains(&name);
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
