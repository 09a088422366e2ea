//! The testbed as a program: a command runs beside a server, and gives it orders.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_railbus-testbed")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn a_command_is_told_of_the_server_and_gives_it_orders() {
    let script = r#"set -eu
        echo "url $1 address $2"
        for order in kill start pause resume stop start; do "$3" $order; echo "$order: $?"; done
        "$3" start || echo "again: $?"
        "$3" nonsense || echo "nonsense: $?"
        exit 7"#;
    for (scheme, name) in [("redis-streams", "Redis"), ("postgres-queue", "PostgreSQL")] {
        let output = run(&[
            "run",
            scheme,
            "--tls",
            "--password",
            "pw",
            "--",
            "sh",
            "-c",
            script,
            "sh",
            "{url}",
            "{address}",
            "{control}",
        ]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(7), "{said}");
        assert!(said.starts_with(&format!("url {scheme}://")), "{said}");
        for order in ["kill", "start", "pause", "resume", "stop"] {
            assert!(said.contains(&format!("{order}: 0")), "{said}");
        }
        assert!(said.contains("again: 2") && said.contains(&format!("{name} runs already")));
        assert!(said.contains("nonsense: 2") && said.contains("the orders are"), "{said}");
    }
}

#[test]
fn what_is_not_understood_is_said() {
    for args in [&["run"][..], &["run", "kafka", "--", "true"], &["run", "redis", "--tsl"], &["x"]]
    {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains("Usage: railbus-testbed"), "{args:?}");
    }
}

#[test]
fn what_is_installed_is_shown() {
    let output = run(&["install"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for name in ["Redis", "NATS", "PostgreSQL", "PgBouncer", "Python"] {
        assert!(said.lines().any(|line| line.starts_with(name)), "{said}");
    }
}
