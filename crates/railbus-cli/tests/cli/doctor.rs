//! `railbus doctor`: every check with how it came out, and nothing changed by looking.

use super::{Ran, Scene, documents, text};
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt};

const URL: &str = "sqlite:a.db";

/// Runs the doctor and returns its code and document.
pub(super) fn doctor(scene: &Scene, url: &str) -> (i32, Value) {
    let ran = scene.run(&["doctor", url, "--json"]);
    assert_eq!(ran.err, "", "{url}");
    let [document] = &documents(&ran.out)[..] else { panic!("{}", ran.out) };
    assert_eq!(document["ok"], ran.code == 0, "{document}");
    (ran.code, document.clone())
}

pub(super) fn names(document: &Value) -> Vec<&str> {
    document["checks"].as_array().unwrap().iter().map(|check| text(check, "name")).collect()
}

/// Returns the status of a check, and all it says.
pub(super) fn check<'a>(document: &'a Value, name: &str) -> (&'a str, String) {
    let checks = document["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| text(check, "name") == name);
    let check = check.unwrap_or_else(|| panic!("no {name} in {document}"));
    let advice = check["advice"].as_str().unwrap_or_default();
    (text(check, "status"), format!("{}; {advice}", text(check, "detail")))
}

/// Asserts that a check came out so, and says this.
pub(super) fn finds(document: &Value, name: &str, status: &str, parts: &[&str]) {
    let (found, said) = check(document, name);
    assert_eq!(found, status, "{name}: {said}");
    for part in parts {
        assert!(said.contains(part), "{name}: no {part} in {said}");
    }
}

#[test]
fn a_store_that_works_is_told_in_all_its_parts() {
    let scene = Scene::with_events(&["shop:a", "shop:b"]);
    scene.ok(&["subscribe", URL, "shop:*", "--group", "g", "--count", "1"]);
    let (code, document) = doctor(&scene, URL);
    assert_eq!((code, text(&document, "url")), (0, URL), "{document}");
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    let all = [
        "version",
        "limits",
        "options",
        "backend",
        "settings",
        "folder",
        "disk",
        "file",
        "log",
        "schema",
        "integrity",
        "open",
        "ping",
        "groups",
        "dead_letters",
    ];
    assert_eq!(names(&document), all);
    finds(&document, "backend", "ok", &["broadcast: every process", "shortest lease: 100ms"]);
    finds(&document, "settings", "ok", &["synchronous full", "max_size unlimited"]);
    finds(&document, "file", "ok", &["a.db, ", "KiB"]);
    finds(&document, "schema", "ok", &["version "]);
    finds(&document, "integrity", "ok", &["no damage"]);
    finds(&document, "groups", "ok", &["1 group, 1 event behind"]);
    finds(&document, "dead_letters", "ok", &["0 dead letters"]);

    let lines = scene.ok(&["doctor", URL]);
    let told: Vec<_> =
        lines.lines().map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect();
    assert_eq!(told, all, "{lines}");
}

#[test]
fn memory_has_less_to_look_at() {
    let (code, document) = doctor(&Scene::new(), "memory:");
    assert_eq!(code, 0);
    let all = ["version", "limits", "options", "backend", "open", "ping", "groups", "dead_letters"];
    assert_eq!(names(&document), all);
    finds(&document, "backend", "ok", &["broadcast: inside the process", "groups: yes"]);
}

#[test]
fn dead_letters_and_a_file_almost_full_are_warnings() {
    let scene = Scene::with_events(&["shop:a"]);
    scene.write("bad.ndjson", "no json\n");
    scene.write(
        "app.toml",
        "bus.url = 'sqlite:a.db'\n[[input]]\nkind = 'ndjson'\npath = 'bad.ndjson'\n\
         topic = 't'\n[steps.s]\ncommand = ['true']\n[pipelines.p]\nflow = 's'\n\
         [[on]]\ntype = 't'\ngroup = 'g'\npipeline = 'p'\n",
    );
    let ran = scene.run(&["run", "app.toml", "--until-idle"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let (code, document) = doctor(&scene, URL);
    assert_eq!(code, 0, "{document}");
    finds(&document, "dead_letters", "warn", &["1 dead letter;", "`railbus dlq ls sqlite:a.db`"]);
    let (code, document) = doctor(&scene, "sqlite:a.db?max_size=10000&synchronous=normal");
    assert_eq!(code, 0);
    finds(&document, "file", "warn", &["of at most 9.8 KiB", "raise max_size"]);
    finds(&document, "settings", "ok", &["synchronous normal"]);
}

#[test]
fn a_store_that_is_missing_or_empty_is_a_warning_and_stays_so() {
    let scene = Scene::new();
    scene.write("empty.db", "");
    for (url, why) in [("sqlite:none.db", "does not exist yet"), ("sqlite:empty.db", "is empty")] {
        let (code, document) = doctor(&scene, url);
        assert_eq!(code, 0, "{document}");
        finds(&document, "file", "warn", &[why, "becomes a store when"]);
        assert!(!names(&document).contains(&"open"), "{document}");
    }
    let left: Vec<_> =
        fs::read_dir(scene.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["empty.db"]);
    assert_eq!(scene.path("empty.db").metadata().unwrap().len(), 0);
    let (code, document) = doctor(&scene, "sqlite:no/where.db");
    assert_eq!(code, 1);
    finds(&document, "folder", "fail", &["folder does not exist", "create the folder"]);
}

#[test]
fn what_is_wrong_with_a_file_fails_and_the_file_stays_as_it_is() {
    let scene = Scene::new();
    scene.write("notes.db", "these are notes, and no database\n".repeat(100));
    let foreign = rusqlite::Connection::open(scene.path("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE mine (a INTEGER); INSERT INTO mine VALUES (1);").unwrap();
    drop(foreign);
    fs::create_dir(scene.path("dir.db")).unwrap();
    for (name, check, part) in [
        ("notes.db", "schema", "not a SQLite database"),
        ("foreign.db", "schema", "belongs to another program"),
        ("dir.db", "file", "it is a directory"),
    ] {
        let before = fs::read(scene.path(name)).ok();
        let (code, document) = doctor(&scene, &format!("sqlite:{name}"));
        assert_eq!(code, 1, "{document}");
        finds(&document, check, "fail", &[part]);
        assert!(!names(&document).contains(&"open"), "{document}");
        assert_eq!(fs::read(scene.path(name)).ok(), before, "{name}");
    }
}

#[test]
fn damage_within_a_store_is_found() {
    let scene = Scene::with_events(&["t"; 40]);
    let mut bytes = fs::read(scene.path("a.db")).unwrap();
    // Not the pages that say what is in the store: the one where the events begin.
    let store = rusqlite::Connection::open(scene.path("a.db")).unwrap();
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'events'";
    let root: i64 = store.query_row(root, [], |row| row.get(0)).unwrap();
    drop(store);
    let at = (usize::try_from(root).unwrap() - 1) * 4096;
    bytes[at..at + 4096].iter_mut().step_by(7).for_each(|byte| *byte = !*byte);
    scene.write("a.db", &bytes);
    let (code, document) = doctor(&scene, URL);
    assert_eq!(code, 1, "{document}");
    finds(&document, "integrity", "fail", &["damaged", ".recover"]);
    assert_eq!(fs::read(scene.path("a.db")).unwrap(), bytes);
}

#[test]
fn a_store_of_another_version_is_told_and_not_brought_up_to_date() {
    let scene = Scene::with_events(&["t"]);
    let set = |version: i32| {
        let store = rusqlite::Connection::open(scene.path("a.db")).unwrap();
        store.pragma_update(None, "user_version", version).unwrap();
    };
    set(1000);
    let (code, document) = doctor(&scene, URL);
    assert_eq!(code, 1);
    finds(&document, "schema", "fail", &["a newer Railbus wrote this file"]);
    set(1);
    for _ in 0..2 {
        let (code, document) = doctor(&scene, URL);
        assert_eq!(code, 0);
        finds(&document, "schema", "warn", &["version 1, this railbus has", "up to date"]);
        assert!(!names(&document).contains(&"open"), "{document}");
    }
}

#[test]
fn a_file_without_permission_fails() {
    let scene = Scene::with_events(&["t"]);
    fs::set_permissions(scene.path("a.db"), fs::Permissions::from_mode(0o444)).unwrap();
    let (code, document) = doctor(&scene, URL);
    assert_eq!(code, 1);
    finds(&document, "file", "fail", &["the file is read-only", "chmod u+w"]);
}

#[test]
fn what_the_url_gets_wrong_fails_with_what_to_write() {
    let scene = Scene::new();
    for (url, name, parts) in [
        ("a.db", "options", ["starts with a scheme", "sqlite:PATH"]),
        ("sqlit:a.db", "backend", ["there is no backend `sqlit`", "did you mean `sqlite`?"]),
        ("nats://h?prefx=a", "backend", ["`prefx` is not", "did you mean `prefix`"]),
        ("sqlite:a.db?retenton=1h", "backend", ["`retenton` is not", "did you mean `retention`"]),
        ("memory:?wire=x", "backend", ["`x` is not a value of `wire`", "lazy, always"]),
    ] {
        let (code, document) = doctor(&scene, url);
        assert_eq!(code, 1);
        finds(&document, name, "fail", &parts);
    }
}

#[test]
fn without_a_url_the_environment_names_the_bus() {
    let scene = Scene::new();
    let run = |variables: &[(&str, &str)]| -> Ran {
        let mut command = scene.command(&["doctor"]);
        command.envs(variables.iter().copied()).output().unwrap().into()
    };
    let none = run(&[]);
    assert_eq!(none.code, 1);
    assert!(none.out.contains("fail  options       options: RAILBUS_URL is not set"), "{none:?}");
    let slip = run(&[("RAILBUS_ULR", "sqlite:a.db"), ("RAILBUS_URL", "sqlite:a.db")]);
    let ignored =
        "warn  environment   the variable `RAILBUS_ULR` is ignored: did you mean `RAILBUS_URL`?";
    assert!(slip.code == 0 && slip.out.contains(ignored), "{slip:?}");
    let there = run(&[("RAILBUS_URL", "sqlite:a.db"), ("RAILBUS_BUS__RETENTION", "2h")]);
    assert_eq!(there.code, 0, "{there:?}");
    let said = "sqlite:a.db?retention=2h (from the environment)";
    assert!(there.out.contains(said), "{there:?}");
    let typo = run(&[("RAILBUS_URL", "sqlite:a.db"), ("RAILBUS_BUS__RETENTON", "2h")]);
    assert!(typo.code == 1 && typo.out.contains("did you mean `retention`"), "{typo:?}");
}

#[test]
fn no_form_of_the_report_tells_a_secret() {
    let scene = Scene::new();
    for url in [
        "redis://me:hunter2@h",
        "redis://hunter2@h",
        "redis://me:a/hunter2@h",
        "redis://me:hunter2",
        "me:hunter2@h",
        "sqlite:me:hunter2@a.db",
        "sqlite:no/me:hunter2@a.db",
        "memory://me:hunter2@h",
        "redsi://me:a?hunter2@h",
    ] {
        for args in [&["doctor", url][..], &["doctor", url, "--json"], &["doctor", url, "-vv"]] {
            let ran = scene.run(args);
            assert!(!format!("{}{}", ran.out, ran.err).contains("hunter2"), "{url}: {ran:?}");
        }
        let mut command = scene.command(&["doctor"]);
        let ran: Ran = command.env("RAILBUS_URL", url).output().unwrap().into();
        assert!(!format!("{}{}", ran.out, ran.err).contains("hunter2"), "{url}: {ran:?}");
    }
}
