//! `railbus publish`: what is an event, and what is not.

use super::{Scene, documents, text};
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, process::Stdio};

/// Everything that was published so far, as a new group sees it.
fn published(scene: &Scene, count: usize) -> Vec<Value> {
    let group = format!("g{}", std::process::id());
    let count = count.to_string();
    scene.json(&["subscribe", "sqlite:a.db", "*", "--group", &group, "--count", &count])
}

#[test]
fn an_event_is_stored_as_it_was_given_and_its_id_printed() {
    let scene = Scene::new();
    let id = scene.ok(&["publish", "sqlite:a.db", "shop:orders", "--data", r#"{"b": 1, "a": 2}"#]);
    let all = ["--type", "order.placed", "--source", "till", "--id", "mine"];
    let mine = scene.json(&[&["publish", "sqlite:a.db", "shop:orders"], &all[..]].concat());
    assert_eq!(mine, [json!({ "id": "mine", "topic": "shop:orders", "type": "order.placed" })]);

    let events = published(&scene, 2);
    assert_eq!(text(&events[0], "id"), id.trim());
    assert_eq!(events[0]["payload"], json!({ "b": 1, "a": 2 }));
    // The type not given is the topic, the payload not given is null.
    assert_eq!((text(&events[0], "type"), text(&events[0], "source")), ("shop:orders", ""));
    assert_eq!((text(&events[1], "type"), text(&events[1], "source")), ("order.placed", "till"));
    assert_eq!(events[1]["payload"], Value::Null);
}

#[test]
fn a_store_begins_with_its_first_event_for_this_user_alone() {
    let scene = Scene::new();
    let first = scene.run(&["publish", "sqlite:a.db", "t"]);
    assert!(first.err.contains("sqlite:a.db is new"), "{}", first.err);
    let mode = scene.path("a.db").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(scene.run(&["publish", "sqlite:a.db", "t"]).err, "");
}

#[test]
fn what_is_no_json_is_refused_with_its_place_before_a_store_begins() {
    let scene = Scene::new();
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--data", r#"{"a" 1}"#]);
    assert!(said.contains("--data is not valid JSON, line 1, column 6"), "{said}");
    assert!(said.contains("hint: "), "{said}");
    scene.write("two.json", "{\n  \"a\": tru\n}\n");
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--file", "two.json"]);
    assert!(said.contains("two.json is not valid JSON, line 2, column 11: expected"), "{said}");
    scene.write("three.json", b"[\n\"\xff\"]");
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--file", "three.json"]);
    assert!(said.contains("line 2, column 2: it is not UTF-8"), "{said}");
    for data in ["", "hello", "{} {}"] {
        scene.broken(&["publish", "sqlite:a.db", "t", "--data", data]);
    }
    assert!(!scene.path("a.db").exists());
}

#[test]
fn a_file_is_one_payload_however_it_is_laid_out() {
    let scene = Scene::new();
    scene.write("pretty.json", "\u{feff}{\n\t\"a\": [1,\r\n\t2]\n}\n");
    scene.ok(&["publish", "sqlite:a.db", "t", "--file", "pretty.json"]);
    let lines = scene.ok(&["subscribe", "sqlite:a.db", "*", "--group", "g", "--count", "1"]);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert_eq!(published(&scene, 1)[0]["payload"], json!({ "a": [1, 2] }));
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--file", "none.json"]);
    assert!(said.contains("none.json"), "{said}");
    scene.broken(&["publish", "sqlite:a.db", "t", "--file", "."]);
}

#[test]
fn a_payload_is_kept_to_any_depth() {
    let scene = Scene::new();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    scene.write("deep.json", &deep);
    scene.ok(&["publish", "sqlite:a.db", "t", "--file", "deep.json"]);
    for json in [&[][..], &["--json"]] {
        let count = ["--group", if json.is_empty() { "g" } else { "h" }, "--count", "1"];
        let line = scene.ok(&[&["subscribe", "sqlite:a.db", "*"], &count[..], json].concat());
        assert!(line.contains(&deep), "{}", &line[..200]);
    }
}

#[test]
fn what_is_too_large_is_refused_without_reading_all_of_it() {
    let scene = Scene::new();
    let large = format!("\"{}\"", "x".repeat(17 << 20));
    scene.write("large.json", &large);
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--file", "large.json"]);
    assert!(said.contains("more than 16777216 bytes"), "{said}");
    let ran = scene.feed(&["publish", "sqlite:a.db", "t", "-"], format!("1\n{large}\n").as_bytes());
    assert_eq!((ran.code, ran.out.lines().count()), (1, 1), "{}", ran.err);
    assert!(ran.err.contains("line 2 of stdin has more than 16777216 bytes"), "{}", ran.err);
}

#[test]
fn each_line_of_stdin_is_an_event() {
    let scene = Scene::new();
    let input = "{\"a\": 1}\r\n\n  \n[2]\n\"three\"";
    let args = ["publish", "sqlite:a.db", "t", "--type", "line", "-", "--json"];
    let ran = scene.feed(&args, input.as_bytes());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("3 events published"), "{}", ran.err);
    let events = published(&scene, 3);
    let payloads: Vec<_> = events.iter().map(|event| event["payload"].clone()).collect();
    assert_eq!(payloads, [json!({ "a": 1 }), json!([2]), json!("three")]);
    let ids = |of: &[Value]| of.iter().map(|one| text(one, "id").to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&documents(&ran.out)), ids(&events));
}

#[test]
fn many_lines_arrive_in_order() {
    let scene = Scene::new();
    let input: String = (0..2_000).map(|i| format!("{i}\n")).collect();
    let ran = scene.feed(&["publish", "sqlite:a.db", "t", "-"], input.as_bytes());
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2_000), "{}", ran.err);
    let events = published(&scene, 2_000);
    assert!(events.iter().enumerate().all(|(i, event)| event["payload"] == json!(i)));
}

#[test]
fn a_bad_line_ends_it_and_what_came_before_is_published() {
    let scene = Scene::new();
    let ran = scene.feed(&["publish", "sqlite:a.db", "t", "-"], b"1\n\n2\n{bad}\n3\n");
    assert_eq!((ran.code, ran.out.lines().count()), (1, 2), "{}", ran.err);
    assert!(ran.err.contains("line 4 of stdin is not valid JSON, column 2"), "{}", ran.err);
    assert!(ran.err.contains("published before it: 2"), "{}", ran.err);
    let ran = scene.feed(&["publish", "sqlite:a.db", "t", "-"], b"4\n\xff\n");
    assert!(ran.err.contains("line 2 of stdin"), "{}", ran.err);
    let events = published(&scene, 3);
    assert_eq!(events.iter().map(|e| e["payload"].clone()).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(scene.feed(&["publish", "sqlite:a.db", "t", "-"], b"").code, 0);
}

#[test]
fn lines_are_published_as_they_come() {
    let scene = Scene::with_events(&["t"]);
    let mut command = scene.command(&["publish", "sqlite:a.db", "t", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, out) =
        (child.stdin.take().unwrap(), super::lines_of(child.stdout.take().unwrap()));
    for i in 0..3 {
        // A line and a half: the half must not hold the line up.
        std::io::Write::write_all(&mut stdin, format!("{i}\n ").as_bytes()).unwrap();
        out.recv_timeout(super::PATIENCE).unwrap();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_key_goes_with_the_event() {
    let scene = Scene::new();
    scene.ok(&["publish", "sqlite:a.db", "t", "--data", "1", "--key", "order-7"]);
    assert_eq!(text(&published(&scene, 1)[0], "key"), "order-7");
}

#[test]
fn a_delayed_event_is_held_back() {
    let scene = Scene::new();
    scene.ok(&["publish", "sqlite:a.db", "t", "--data", "\"late\"", "--delay", "1s"]);
    scene.ok(&["publish", "sqlite:a.db", "t", "--data", "\"early\""]);
    let events = published(&scene, 2);
    let payloads: Vec<_> = events.iter().map(|event| text(event, "payload")).collect();
    assert_eq!(payloads, ["early", "late"]);
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--delay", "soon"]);
    assert!(said.contains("`soon` is not a duration"), "{said}");
}

#[test]
fn what_reaches_nobody_or_can_be_no_event_is_refused() {
    let scene = Scene::new();
    let said = scene.broken(&["publish", "memory:", "t"]);
    assert!(said.contains("reaches nobody outside this process"), "{said}");
    assert!(said.contains("hint: ") && said.contains("sqlite:PATH"), "{said}");
    let said = scene.broken(&["publish", "sqlit:a.db", "t"]);
    assert!(said.contains("did you mean `sqlite`?"), "{said}");
    assert!(scene.broken(&["publish", "a.db", "t"]).contains("hint: "));
    assert!(scene.broken(&["publish", "sqlite:", "t"]).contains("hint: "));
    let said = scene.broken(&["publish", "sqlite:a.db", ""]);
    assert!(said.contains("the topic is empty") && said.contains("hint: name it"), "{said}");
    let long = "x".repeat(4096);
    assert!(scene.broken(&["publish", "sqlite:a.db", &long]).contains("4096 bytes"));
    let said = scene.broken(&["publish", "sqlite:a.db", "t", "--type", &long]);
    assert!(said.contains("the type has 4096 bytes"), "{said}");
    assert!(scene.broken(&["publish", "sqlite:a.db", "t", "--id", ""]).contains("the id"));
    assert!(scene.broken(&["publish", "sqlite:a.db?x=1", "t"]).contains("`x` is not a setting"));
    assert!(!scene.path("a.db").exists());
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let scene = Scene::new();
    for args in [
        &["publish"][..],
        &["publish", "sqlite:a.db", "t", "--data", "1", "--file", "a"],
        &["publish", "sqlite:a.db", "t", "-", "--data", "1"],
        &["publish", "sqlite:a.db", "t", "-", "--id", "1"],
        &["publish", "sqlite:a.db", "t", "+"],
    ] {
        let ran = scene.run(args);
        assert_eq!((ran.code, &*ran.out), (2, ""), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_payload_on_stdin_is_not_passed_over() {
    let scene = Scene::new();
    let args = ["publish", "sqlite:a.db", "t"];
    scene.write("some.json", "{}");
    scene.write("none.json", "");
    let from = |name: &str, more: &[&str]| {
        let stdin = std::fs::File::open(scene.path(name)).unwrap();
        let mut command = scene.command(&[&args, more].concat());
        super::Ran::from(command.stdin(stdin).output().unwrap())
    };
    for ran in [scene.feed(&args, b"{}"), scene.feed(&args, b""), from("some.json", &[])] {
        assert_eq!((ran.code, &*ran.out), (1, ""), "{}", ran.err);
        assert!(ran.err.contains("hint: add `-` to read payloads from stdin"), "{}", ran.err);
    }
    assert!(!scene.path("a.db").exists());
    assert_eq!(from("none.json", &[]).code, 0);
    assert_eq!(from("some.json", &["--data", "1"]).code, 0);
    assert_eq!(from("some.json", &["-"]).code, 0);
    assert_eq!(scene.feed(&[&args[..], &["--data", "null"]].concat(), b"{}").code, 0);
    let payloads: Vec<_> = published(&scene, 4).iter().map(|e| e["payload"].clone()).collect();
    assert_eq!(payloads, [Value::Null, json!(1), json!({}), Value::Null]);
}

#[cfg(target_os = "linux")]
#[test]
fn an_id_that_could_not_be_printed_is_an_error() {
    let scene = Scene::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = scene.command(&["publish", "sqlite:a.db", "t"]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stdout can't be written"), "{said}");
}
