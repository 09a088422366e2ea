//! `railbus dlq`: what failed, why, and what becomes of it.

use super::{Ran, Scene, text};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Stdio;

/// Orders fail in both subscriptions of a group while there is no file `mended`, refunds in one;
/// a line is no event.
const APP: &str = r#"
bus.url = "sqlite:a.db"
[[input]]
kind = "ndjson"
path = "in.ndjson"
type_field = "type"
payload_field = "payload"
topic = "shop:{type}"
[steps.look]
command = ["./look.sh"]
[pipelines.bill]
flow = "look"
[pipelines.ship]
flow = "look"
[[on]]
type = "order.*"
group = "desk"
pipeline = "bill"
retry = { max_attempts = 2, backoff_factor = 0.01 }
[[on]]
type = "order.*"
group = "desk"
pipeline = "ship"
retry = { max_attempts = 1 }
[[on]]
type = "refund"
group = "till"
pipeline = "ship"
retry = { max_attempts = 1 }
"#;

const LOOK: &str = "#!/bin/sh\ncat >/dev/null\n[ -e mended ] && exit 0\n\
                    printf 'no \\033[31mink\\nin line two' >&2\nexit 7\n";

const INPUT: &str = r#"{"type": "order.placed", "payload": {"n": 1}}
not json
{"type": "refund", "payload": {"n": 2}}
{"type": "order.paid", "payload": {"n": 3}}
"#;

const URL: &str = "sqlite:a.db";

/// A scene with six dead letters: two a order, one of the refund, one of the line.
fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("app.toml", APP);
    scene.write("in.ndjson", INPUT);
    script(&scene, "look.sh", LOOK);
    assert_eq!(run(&scene).code, 3);
    scene
}

fn script(scene: &Scene, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    scene.write(name, text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(scene.path(name), mode).unwrap();
}

fn run(scene: &Scene) -> Ran {
    scene.run(&["run", "app.toml", "--until-idle", "--json"])
}

fn letters(scene: &Scene, filter: &[&str]) -> Vec<Value> {
    scene.json(&[&["dlq", "ls", URL], filter].concat())
}

fn redrive(scene: &Scene, filter: &[&str]) -> Value {
    scene.json(&[&["dlq", "redrive", URL], filter].concat()).remove(0)
}

#[test]
fn letters_are_listed_with_where_they_failed_and_why() {
    let scene = scene();
    let listed = letters(&scene, &[]);
    assert_eq!(listed.len(), 6);
    for letter in &listed {
        let keys: Vec<_> = letter.as_object().unwrap().keys().map(String::as_str).collect();
        let all = ["id", "at", "event_id", "type", "topic", "group", "subscription", "attempts"];
        assert_eq!(keys, [&all[..], &["reason"]].concat());
    }
    let line = listed.iter().find(|letter| letter["group"].is_null()).unwrap();
    assert!(text(line, "reason").contains("line at byte 46"), "{line}");
    let bill = listed.iter().find(|letter| letter["subscription"] == "bill").unwrap();
    assert_eq!((text(bill, "group"), &bill["attempts"]), ("desk", &json!(2)));

    let ran = scene.run(&["dlq", "ls", URL]);
    assert_eq!(ran.code, 0);
    // No terminal, no border: a head and the letters.
    assert_eq!(ran.out.lines().count(), 7, "{}", ran.out);
    assert!(!ran.out.contains(['│', '─']) && ran.out.starts_with("id  when"), "{}", ran.out);
    let line = ran.out.lines().find(|line| line.contains("line at byte")).unwrap();
    let cells: Vec<_> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    let [_, when, _, _, place, tries, reason] = cells[..] else { panic!("{line}") };
    assert!(when.len() == 20 && when.ends_with('Z') && !when.contains('T'), "{line}");
    assert_eq!((place, tries), ("input in.ndjson", "0"));
    assert!(reason.starts_with("in.ndjson, line at byte 46"), "{line}");
    assert!(ran.out.contains("desk / bill") && ran.out.contains("order.placed"), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
    assert!(ran.err.contains("6 dead letters") && ran.err.contains("dlq show"), "{}", ran.err);
}

#[test]
fn filters_narrow_the_list_together() {
    let scene = scene();
    let count = |filter: &[&str]| letters(&scene, filter).len();
    assert_eq!(count(&["--group", "desk"]), 4);
    assert_eq!(count(&["--subscription", "ship"]), 3);
    assert_eq!(count(&["--group", "desk", "--subscription", "ship"]), 2);
    assert_eq!(count(&["--type", "order.*"]), 4);
    assert_eq!(count(&["--type", "order.*", "--topic", "*paid", "--subscription", "bill"]), 1);
    assert_eq!(count(&["--topic", "shop:refund"]), 1);
    assert_eq!(count(&["--reason", "line at byte"]), 1);
    assert_eq!(count(&["--reason", "nowhere"]), 0);
    assert_eq!(count(&["--limit", "2"]), 2);
    let first = letters(&scene, &["--limit", "1"]).remove(0);
    let same = letters(&scene, &["--id", text(&first, "id")]);
    assert_eq!((same.len(), &same[0]), (1, &first));
    let of_event = letters(&scene, &["--event", text(&first, "event_id")]);
    assert!(!of_event.is_empty() && of_event.len() < 6);
    let nothing = scene.run(&["dlq", "ls", URL, "--group", "none"]);
    assert_eq!((nothing.code, &*nothing.out), (0, ""));
    assert!(nothing.err.contains("no dead letter matches"), "{}", nothing.err);
}

#[test]
fn a_letter_is_shown_with_its_payload_and_history() {
    let scene = scene();
    let bill = letters(&scene, &["--subscription", "bill", "--type", "order.placed"]).remove(0);
    let shown = scene.json(&["dlq", "show", URL, text(&bill, "id")]).remove(0);
    assert_eq!(shown["event"]["payload"], json!({ "n": 1 }));
    assert_eq!(shown["event"]["id"], bill["event_id"]);
    assert_eq!(shown["reason"], bill["reason"]);
    let tries: Vec<_> = shown["history"].as_array().unwrap().iter().collect();
    assert_eq!(tries.iter().filter(|t| t["subscription"] == "bill").count(), 2, "{shown}");

    let page = scene.ok(&["dlq", "show", URL, text(&bill, "id")]);
    for part in ["order.placed", "shop:order.placed", "desk", "bill", "\"n\": 1", "history"] {
        assert!(page.contains(part), "no {part} in {page}");
    }
    assert!(page.contains("try 1 at ") && page.contains("try 2 at "), "{page}");
    assert!(page.lines().all(|line| !line.contains(char::is_control)), "{page:?}");
}

#[test]
fn a_letter_that_is_not_there_is_an_error_that_names_those_that_are() {
    let scene = scene();
    for id in ["999", "x"] {
        let said = scene.broken(&["dlq", "show", URL, id]);
        assert!(said.contains("there is no such dead letter"), "{said}");
        let id = letters(&scene, &["--limit", "1"])[0]["id"].as_str().unwrap().to_owned();
        assert!(said.contains(&format!("there are {id}, ")) && said.contains("dlq ls"), "{said}");
    }
    scene.ok(&["dlq", "purge", URL, "--all"]);
    let said = scene.broken(&["dlq", "show", URL, "1"]);
    assert!(said.contains("the store has no dead letters"), "{said}");
}

#[test]
fn redriven_letters_are_tried_anew_and_twice_is_once() {
    let scene = scene();
    let would = redrive(&scene, &["--dry-run"]);
    let skipped = json!({ "inputs": 1, "in_work": 0 });
    let done = |matched, redriven, dry_run| {
        json!({
            "matched": matched, "redriven": redriven, "dry_run": dry_run, "skipped": skipped,
        })
    };
    assert_eq!(would, done(6, 5, true));
    assert_eq!(letters(&scene, &[]).len(), 6);
    let ids: Vec<_> = letters(&scene, &["--group", "desk"]);
    assert_eq!(redrive(&scene, &[]), done(6, 5, false));
    let again = scene.run(&["dlq", "redrive", URL]);
    assert_eq!((again.code, &*again.out), (0, ""));
    assert!(again.err.contains("nothing to do"), "{}", again.err);
    assert!(again.err.contains("never became an event"), "{}", again.err);
    assert_eq!(redrive(&scene, &[]), done(1, 0, false));

    // Still broken: the same events fail again, in the same subscriptions, and not a letter more.
    assert_eq!(run(&scene).code, 3);
    let places = |letters: &[Value]| {
        let mut places: Vec<_> = letters
            .iter()
            .map(|l| (text(l, "event_id").to_owned(), text(l, "subscription").to_owned()))
            .collect();
        places.sort();
        places
    };
    assert_eq!(places(&letters(&scene, &["--group", "desk"])), places(&ids));

    scene.write("mended", "");
    assert_eq!(redrive(&scene, &[])["redriven"], 5);
    assert_eq!(run(&scene).code, 0);
    assert_eq!(letters(&scene, &[]).len(), 1);
}

#[test]
fn redrive_takes_what_its_filters_choose() {
    let scene = scene();
    assert_eq!(redrive(&scene, &["--subscription", "bill"])["redriven"], 2);
    assert_eq!(redrive(&scene, &["--subscription", "bill"])["redriven"], 0);
    // The line comes before the refund, and does not use the limit up.
    let rest = redrive(&scene, &["--limit", "1"]);
    assert_eq!((&rest["redriven"], &rest["skipped"]["inputs"]), (&json!(1), &json!(1)));
    let gone = redrive(&scene, &["--id", "999"]);
    assert_eq!((&gone["matched"], &gone["redriven"]), (&json!(0), &json!(0)));
    assert_eq!(letters(&scene, &[]).len(), 3);
}

#[test]
fn an_event_that_another_subscription_works_on_is_skipped_and_said_so() {
    let scene = Scene::new();
    let slow = "retry = { max_attempts = 2, backoff_factor = 3600, max_backoff = 3600 }";
    let app = APP.replace("retry = { max_attempts = 2, backoff_factor = 0.01 }", slow);
    assert!(app.contains(slow));
    scene.write("app.toml", app);
    scene.write("in.ndjson", INPUT.lines().next().unwrap());
    script(&scene, "look.sh", LOOK);
    let running = scene.start(&["run", "app.toml"]);
    running.hear("next=\"dead letter\"");
    // It drains: the one that waits for its second try is held back in the store.
    running.signal(Signal::TERM);
    assert_eq!(running.end().0, 0);
    let done = redrive(&scene, &[]);
    assert_eq!((&done["redriven"], &done["skipped"]["in_work"]), (&json!(0), &json!(1)), "{done}");
    let ran = scene.run(&["dlq", "redrive", URL]);
    assert_eq!(ran.code, 0);
    assert!(ran.err.contains("another subscription of the group is at work"), "{}", ran.err);
}

#[test]
fn purge_deletes_what_it_was_told_to_and_needs_to_be_told() {
    let scene = scene();
    for args in [&[][..], &["--limit", "1"], &["--all", "--group", "desk"], &["--dry-run"]] {
        let ran = scene.run(&[&["dlq", "purge", URL], args].concat());
        assert_eq!((ran.code, &*ran.out), (2, ""), "{args:?}: {}", ran.err);
    }
    assert_eq!(letters(&scene, &[]).len(), 6);
    let purge = |args: &[&str]| scene.json(&[&["dlq", "purge", URL], args].concat()).remove(0);
    let done =
        |matched, purged, dry| json!({ "matched": matched, "purged": purged, "dry_run": dry });
    assert_eq!(purge(&["--group", "till", "--dry-run"]), done(1, 1, true));
    assert_eq!(purge(&["--group", "till"]), done(1, 1, false));
    assert_eq!(purge(&["--group", "till"]), done(0, 0, false));
    assert_eq!(purge(&["--all", "--limit", "2"]), done(2, 2, false));
    assert_eq!(letters(&scene, &[]).len(), 3);
    assert!(scene.run(&["dlq", "purge", URL, "--all"]).err.contains("3 dead letters deleted"));
    assert!(scene.run(&["dlq", "purge", URL, "--all"]).err.contains("nothing to do"));
    // What is deleted does not come again.
    assert_eq!(run(&scene).code, 0);
}

#[test]
fn a_list_that_nobody_reads_ends_quietly() {
    let scene = scene();
    for args in [&["dlq", "ls", URL][..], &["dlq", "ls", URL, "--json"], &["groups", "ls", URL]] {
        let mut command = scene.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{said}");
        assert!(!said.contains("error") && !said.contains("panicked"), "{said}");
    }
}
