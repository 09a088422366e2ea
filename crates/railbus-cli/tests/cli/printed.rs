//! What does not depend on a store: the backends, completions, help, colours.

use super::{Scene, text};
use serde_json::json;

#[test]
fn the_backends_are_listed_with_what_they_guarantee() {
    let scene = Scene::new();
    let backends = scene.json(&["backends"]);
    let schemes: Vec<_> = backends.iter().map(|backend| text(backend, "scheme")).collect();
    let all =
        ["memory", "nats", "postgres", "postgres-queue", "redis", "redis-streams", "sqlite", "sqs"];
    assert!(all.iter().all(|name| schemes.contains(name)), "{schemes:?}");
    let of = |name: &str| backends.iter().find(|backend| text(backend, "scheme") == name).unwrap();
    let (memory, sqlite) = (of("memory"), of("sqlite"));
    assert!(backends.iter().all(|one| text(one, "conformance").contains("passed")), "{backends:?}");
    assert_eq!((&memory["groups"], &sqlite["groups"]), (&json!(true), &json!(true)));
    assert_eq!(sqlite["payload_max_bytes"], 16 << 20);
    assert_eq!((&memory["durable"], &sqlite["durable"]), (&json!(false), &json!(true)));
    assert_eq!((&memory["delay"], &sqlite["delay"]), (&json!("unlimited"), &json!("unlimited")));
    let keys: Vec<_> =
        sqlite["settings"].as_array().unwrap().iter().map(|s| text(s, "key")).collect();
    assert!(keys.contains(&"retention") && keys.contains(&"journal_retention"), "{keys:?}");
    assert_eq!((&memory["journal"], &sqlite["journal"]), (&json!(false), &json!(true)));
    assert!(memory.as_object().unwrap().keys().eq(sqlite.as_object().unwrap().keys()));

    let table = scene.ok(&["backends"]);
    for part in ["memory:", "sqlite:PATH", "delivery", "order", "16 MiB", "retention", "100ms"] {
        assert!(table.contains(part), "no {part} in {table}");
    }
}

#[test]
fn completions_are_a_script_for_each_shell() {
    let scene = Scene::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scene.ok(&["completions", shell]);
        for command in ["publish", "subscribe", "redrive", "backends", "doctor", "runs"] {
            assert!(script.contains(command), "no {command} for {shell}");
        }
    }
    assert_eq!(scene.run(&["completions", "cobol"]).code, 2);
}

#[test]
fn every_command_has_help() {
    let scene = Scene::new();
    let commands =
        ["run", "check", "publish", "subscribe", "dlq", "groups", "runs", "backends", "doctor"];
    for command in commands {
        assert!(scene.ok(&[command, "--help"]).contains("Usage: railbus"), "{command}");
    }
    for command in [
        ["dlq", "ls"],
        ["dlq", "show"],
        ["dlq", "purge"],
        ["groups", "prune"],
        ["runs", "ls"],
        ["runs", "show"],
        ["runs", "cancel"],
        ["runs", "prune"],
    ] {
        assert!(scene.ok(&[&command[..], &["--help"]].concat()).contains("<URL>"), "{command:?}");
    }
}

#[test]
fn nothing_is_coloured_where_colours_are_not_wanted() {
    let scene = Scene::new();
    let args = ["dlq", "ls", "sqlite:none.db"];
    assert!(!scene.broken(&args).contains('\u{1b}'));
    let forced = |no_color: &str| {
        let mut command = scene.command(&args);
        command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", no_color);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert!(forced("").contains('\u{1b}'), "colours can't be had at all");
    assert!(!forced("1").contains('\u{1b}'));
}

#[test]
fn a_secret_in_a_url_is_not_printed() {
    let (scene, url) = (Scene::new(), "sqlite:u:hunter2@a.db");
    for args in [
        &["publish", url, "t"][..],
        &["subscribe", url, "*", "--group", "g", "--count", "1"],
        &["groups", "ls", url],
        &["dlq", "ls", url],
        &["dlq", "show", url, "1"],
        &["doctor", url],
    ] {
        let ran = scene.run(args);
        assert!(!format!("{}{}", ran.out, ran.err).contains("hunter2"), "{ran:?}");
    }
}
