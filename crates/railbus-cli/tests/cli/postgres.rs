//! `railbus migrate`, `doctor` and `backends` with PostgreSQL: what they do to a server and say of it,
//! and what they say where it does not let them.

use super::{
    Scene,
    doctor::{check, doctor, finds, names},
    documents, text,
};
use railbus::backends::postgres_queue::script;
use railbus_testbed::{Database, PgBouncer, Postgres};
use std::{process::Stdio, sync::LazyLock};

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::options().password("secret").start().unwrap());

/// How many migrations there were, and the newest.
const VERSIONS: &str = "SELECT count(*), max(version) FROM railbus.migrations";

/// The version of the tables that this program makes.
fn newest() -> i32 {
    (0..).take_while(|version| script("railbus", *version).is_ok()).last().unwrap()
}

fn all_of_them() -> String {
    format!("{0}|{0}", newest())
}

fn brought() -> String {
    format!("brought the tables from version 0 to {}\n", newest())
}

fn already() -> String {
    format!("the tables have version {} already\n", newest())
}

/// How many tables there are, of anybody.
fn tables(database: &Database<'_>) -> u32 {
    let all = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    database.psql(all).unwrap().parse().unwrap()
}

#[test]
fn migrate_makes_the_tables_once_and_says_what_it_did() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let url = database.url("postgres-queue");
    assert_eq!(scene.ok(&["migrate", &url]), brought());
    let made = tables(&database);
    assert_eq!(scene.ok(&["migrate", &url]), already());
    assert_eq!(
        scene.ok(&["migrate", &url, "--json"]),
        format!(
            "{{\"found\":{0},\"version\":{0}}}
",
            newest()
        )
    );
    scene.ok(&["publish", &url, "t", "--data", "1"]);
    assert_eq!((tables(&database), &*database.psql(VERSIONS).unwrap()), (made, &*all_of_them()));
    let elsewhere = format!("{url}?schema=else_where");
    assert_eq!(scene.ok(&["migrate", &elsewhere]), brought());
    assert_eq!(tables(&database), 2 * made);
}

#[test]
fn of_many_that_migrate_at_once_one_does() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let url = database.url("postgres-queue");
    let running: Vec<_> = (0..6)
        .map(|_| scene.command(&["migrate", &url]).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let said: Vec<_> = running
        .into_iter()
        .map(|child| {
            let out = child.wait_with_output().unwrap();
            assert!(out.status.success());
            String::from_utf8(out.stdout).unwrap()
        })
        .collect();
    let brought = said.iter().filter(|said| **said == brought());
    let already = said.iter().filter(|said| **said == already());
    assert_eq!((brought.count(), already.count()), (1, 5), "{said:?}");
    assert_eq!(database.psql(VERSIONS).unwrap(), all_of_them());
}

#[test]
fn what_migrate_prints_does_the_same_in_psql_and_needs_no_server() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let nowhere = "postgres-queue://nobody@127.0.0.1:1/none";
    let sql = scene.ok(&["migrate", nowhere, "--print"]);
    database.psql(&sql).unwrap();
    let url = database.url("postgres-queue");
    assert_eq!(scene.ok(&["migrate", &url]), already());
    SERVER.role("printed", "p").unwrap();
    let grants = scene.ok(&[
        "migrate",
        nowhere,
        "--print",
        "--from",
        &newest().to_string(),
        "--role",
        "printed",
    ]);
    database.psql(&grants).unwrap();
    let as_role = database.url_as("postgres-queue", "printed", "p");
    scene.ok(&["publish", &as_role, "t", "--data", "1"]);
    scene.ok(&["subscribe", &as_role, "t", "--group", "g", "--count", "1"]);
    let error = scene.broken(&["migrate", nowhere, "--print", "--from", "99"]);
    assert!(error.contains("no version 99") && error.contains("0, for none"), "{error}");
}

#[test]
fn migrate_lets_roles_work_and_one_that_may_not_is_told_who_may() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    for role in ["migrating", "publishing"] {
        SERVER.role(role, "p").unwrap();
    }
    let as_role = database.url_as("postgres-queue", "migrating", "p");
    let error = scene.broken(&["migrate", &as_role]);
    assert!(error.contains("this user may not bring") && error.contains("--print"), "{error}");
    assert_eq!(tables(&database), 0);
    let url = database.url("postgres-queue");
    let error = scene.broken(&["migrate", &url, "--role", "nobody here"]);
    assert!(error.contains("nobody here"), "{error}");
    scene.ok(&["migrate", &url, "--role", "migrating", "--publisher", "publishing"]);
    assert_eq!(scene.ok(&["migrate", &as_role]), already());
    let publisher = database.url_as("postgres-queue", "publishing", "p");
    scene.ok(&["publish", &publisher, "t", "--data", "1"]);
    let error = scene.broken(&["subscribe", &publisher, "t", "--group", "g", "--count", "1"]);
    assert!(error.contains("this user may not do that"), "{error}");
    scene.ok(&["subscribe", &as_role, "t", "--group", "g", "--count", "1"]);
}

#[test]
fn what_is_wrong_with_a_server_is_said_by_migrate_and_doctor_without_its_password() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let good = database.url("postgres-queue");
    let other_port = format!(":{}/", SERVER.port());
    let wrong = [
        (good.replace("secret", "hunter2"), "the password is wrong"),
        (database.url_as("postgres-queue", "nobody", "secret"), "or there is no such user"),
        (good.replace(database.name(), "no_where"), "the database does not exist"),
        (good.replace(&other_port, ":1/"), "can't be reached"),
        (good.replace("127.0.0.1", "nowhere.invalid"), "can't be reached"),
        (format!("{good}?sslmode=require"), "does not do TLS"),
        (format!("{good}?schema=a-b"), "not a value of `schema`"),
    ];
    for (url, why) in wrong {
        let error = scene.broken(&["migrate", &url]);
        assert!(error.contains(why), "{why}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("secret"), "{error}");
        let (code, document) = doctor(&scene, &url);
        assert_eq!(code, 1, "{why}: {document}");
        let place = if url.contains("a-b") { "backend" } else { "server" };
        finds(&document, place, "fail", &[why]);
        let all = document.to_string();
        assert!(!all.contains("hunter2") && !all.contains("secret"), "{all}");
    }
    let error = scene.broken(&["migrate", "sqlite:a.db"]);
    assert!(error.contains("no tables to make"), "{error}");
    assert_eq!(tables(&database), 0);
}

#[test]
fn tables_of_a_newer_railbus_are_left_alone_and_both_say_so() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let url = database.url("postgres-queue");
    scene.ok(&["migrate", &url]);
    database.psql("INSERT INTO railbus.migrations VALUES (99)").unwrap();
    let error = scene.broken(&["migrate", &url]);
    assert!(error.contains("a newer Railbus") && error.contains("99"), "{error}");
    let (code, document) = doctor(&scene, &url);
    assert_eq!(code, 1);
    finds(&document, "schema", "fail", &["a newer Railbus", "99"]);
    assert_eq!(database.psql(VERSIONS).unwrap(), format!("{}|99", newest() + 1));
}

#[test]
fn the_doctor_looks_at_a_queue_and_changes_nothing() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let url = database.url("postgres-queue");
    let (code, document) = doctor(&scene, &url);
    assert_eq!((code, tables(&database)), (0, 0), "{document}");
    finds(&document, "schema", "warn", &["not there yet", "railbus migrate"]);
    scene.ok(&["publish", &url, "t", "--data", "1"]);
    scene.ok(&["publish", &url, "t", "--data", "2"]);
    scene.ok(&["subscribe", &url, "t", "--group", "g", "--count", "1"]);
    let (code, document) = doctor(&scene, &url);
    assert_eq!(code, 0, "{document}");
    let all = [
        "version",
        "limits",
        "options",
        "backend",
        "settings",
        "server",
        "schema",
        "transactions",
        "open",
        "ping",
        "groups",
        "dead_letters",
    ];
    assert_eq!(names(&document), all);
    finds(&document, "server", "ok", &["127.0.0.1", "version 1"]);
    finds(&document, "schema", "ok", &[&format!("version {}", newest())]);
    finds(&document, "groups", "ok", &["1 group, 1 event behind"]);
    assert!(!text(&document, "url").contains("secret"), "{document}");
}

#[test]
fn behind_a_pool_the_doctor_says_what_to_set() {
    let postgres = Postgres::start().unwrap();
    let (scene, bouncer) = (Scene::new(), PgBouncer::before(&postgres).unwrap());
    let url = bouncer.url("postgres-queue");
    let (_, document) = doctor(&scene, &url);
    finds(&document, "pool", "warn", &["poll_only=true"]);
    let (code, document) = doctor(&scene, &format!("{url}?poll_only=true"));
    assert_eq!((code, check(&document, "pool").0), (0, "ok"), "{document}");
    scene.ok(&["migrate", &url]);
    let error = scene.broken(&["subscribe", &url, "t", "--group", "g", "--count", "1"]);
    assert!(error.contains("poll_only=true"), "{error}");
}

#[test]
fn the_doctor_looks_at_the_live_backend() {
    let (scene, database) = (Scene::new(), SERVER.database().unwrap());
    let url = database.url("postgres");
    let (code, document) = doctor(&scene, &url);
    assert_eq!((code, tables(&database)), (0, 0), "{document}");
    finds(&document, "server", "ok", &["PostgreSQL 1", "127.0.0.1"]);
    finds(&document, "backend", "ok", &["groups: no"]);
    finds(&document, "settings", "ok", &["sslmode prefer,"]);
    let (code, document) = doctor(&scene, &url.replace("secret", "hunter2"));
    assert_eq!(code, 1);
    finds(&document, "server", "fail", &["the password is wrong"]);
}

#[test]
fn backends_tells_what_both_guarantee_and_what_can_be_set() {
    let scene = Scene::new();
    let all = documents(&scene.ok(&["backends", "--json"]));
    let of = |scheme: &str| all.iter().find(|row| row["scheme"] == scheme).unwrap();
    let (live, queue) = (of("postgres"), of("postgres-queue"));
    assert_eq!((&live["groups"], &queue["groups"]), (&false.into(), &true.into()));
    assert_eq!((&live["withdraws"], &queue["withdraws"]), (&false.into(), &true.into()));
    let keys = |row: &serde_json::Value| -> Vec<String> {
        row["settings"].as_array().unwrap().iter().map(|s| text(s, "key").to_owned()).collect()
    };
    for key in ["host", "password", "sslmode", "schema", "retention", "poll", "poll_only"] {
        assert!(keys(queue).contains(&key.to_owned()), "{key}");
    }
    let lines = scene.ok(&["backends"]);
    assert!(lines.contains("settings of postgres-queue:"), "{lines}");
}
