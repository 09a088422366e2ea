//! What is wrong with a database file is said, and the file left as it was.

use super::Scene;
use std::{fs, os::unix::fs::PermissionsExt};

const LOOKS: [&[&str]; 5] = [
    &["dlq", "ls"],
    &["dlq", "show"],
    &["dlq", "redrive"],
    &["groups", "ls"],
    &["groups", "prune"],
];

/// The command that looks at this store.
fn look(command: &[&str], url: &str) -> Vec<String> {
    let rest: &[&str] = match command[1] {
        "show" => &["1"],
        "prune" => &["g"],
        _ => &[],
    };
    [command, &[url], rest].concat().into_iter().map(str::to_owned).collect()
}

/// Every command that opens this store.
fn all(url: &str) -> Vec<Vec<String>> {
    let mut all: Vec<_> = LOOKS.iter().map(|command| look(command, url)).collect();
    for command in [["publish", url, "t"], ["subscribe", url, "*"]] {
        all.push(command.map(str::to_owned).to_vec());
    }
    all
}

/// Runs a command that must break with this said, and a hint.
fn refused(scene: &Scene, command: &[String], part: &str) {
    let args: Vec<_> = command.iter().map(String::as_str).collect();
    let said = scene.broken(&args);
    assert!(said.contains(part) && said.contains("hint: "), "{args:?}: {said}");
}

#[test]
fn looking_at_a_store_that_is_not_there_creates_none() {
    let scene = Scene::new();
    for command in LOOKS {
        refused(&scene, &look(command, "sqlite:none.db"), "there is no such store");
        refused(&scene, &look(command, "sqlite:no/where.db"), "there is no such store");
        refused(&scene, &look(command, "sqlite:"), "path of the database file is missing");
    }
    assert_eq!(fs::read_dir(scene.0.path()).unwrap().count(), 0);
}

#[test]
fn looking_at_an_empty_file_leaves_it_empty() {
    let scene = Scene::new();
    scene.write("empty.db", "");
    for command in LOOKS {
        refused(&scene, &look(command, "sqlite:empty.db"), "the file is empty");
    }
    assert_eq!(scene.path("empty.db").metadata().unwrap().len(), 0);
}

#[test]
fn memory_keeps_nothing_to_look_at() {
    let scene = Scene::new();
    for command in LOOKS {
        refused(&scene, &look(command, "memory:"), "ends with the process that keeps it");
    }
}

#[test]
fn a_folder_that_is_not_there_is_not_created() {
    let scene = Scene::new();
    for command in [["publish", "sqlite:no/a.db", "t"], ["subscribe", "sqlite:no/a.db", "*"]] {
        refused(&scene, &command.map(str::to_owned), "the file's folder does not exist");
    }
    assert!(!scene.path("no").exists());
}

#[test]
fn a_directory_is_no_store() {
    let scene = Scene::new();
    fs::create_dir(scene.path("a.db")).unwrap();
    for command in all("sqlite:a.db") {
        refused(&scene, &command, "it is a directory");
    }
}

#[test]
fn a_read_only_file_is_refused() {
    let scene = Scene::with_events(&["t"]);
    fs::set_permissions(scene.path("a.db"), fs::Permissions::from_mode(0o444)).unwrap();
    for command in all("sqlite:a.db") {
        refused(&scene, &command, "the file is read-only");
    }
}

#[test]
fn files_of_others_are_refused_and_stay_as_they_are() {
    let scene = Scene::new();
    scene.write("notes.db", "these are notes, and no database\n".repeat(100));
    let foreign = rusqlite::Connection::open(scene.path("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE mine (a INTEGER); INSERT INTO mine VALUES (1);").unwrap();
    drop(foreign);
    for (name, part) in
        [("notes.db", "not a SQLite database"), ("foreign.db", "belongs to another program")]
    {
        let before = fs::read(scene.path(name)).unwrap();
        for command in all(&format!("sqlite:{name}")) {
            refused(&scene, &command, part);
        }
        assert_eq!(fs::read(scene.path(name)).unwrap(), before, "{name}");
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let scene = Scene::with_events(&["t"]);
    let store = rusqlite::Connection::open(scene.path("a.db")).unwrap();
    store.pragma_update(None, "user_version", 1000).unwrap();
    drop(store);
    for command in all("sqlite:a.db") {
        refused(&scene, &command, "a newer Railbus wrote this file");
    }
}
