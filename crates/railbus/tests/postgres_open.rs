//! Opening a bus on PostgreSQL: what is wrong is told at once, by its kind, and with what to do.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, server};
use railbus::{Bus, Error, ErrorKind, Event, backends::checkup::Status, json, options::Options};
use railbus_testbed::Postgres;
use std::net::TcpListener;

/// Opens what can't be opened, and returns why.
async fn refused(url: &str) -> Error {
    match Bus::open(url).await {
        Ok(_) => panic!("{url} opens"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_can_not_be_reached_is_told_and_can_heal() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for place in [format!("127.0.0.1:{free}"), "no-such-host.invalid".into(), "%2Fno%2Fsuch".into()]
    {
        let error = refused(&format!("postgres://me@{place}/d")).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.is_retryable() && error.advice().unwrap().contains("host"), "{error:?}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_given_up() {
    // It accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://me@127.0.0.1:{port}/d?connect_timeout=200ms");
    assert_eq!(refused(&url).await.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_is_not_postgresql_is_told() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::Write;
        for stream in other.incoming().flatten() {
            let _ = { stream }.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = refused(&format!("postgres://me@127.0.0.1:{port}/d?sslmode=disable")).await;
    assert!([ErrorKind::Config, ErrorKind::Unavailable].contains(&error.kind()), "{error}");
}

#[tokio::test]
async fn wrong_credentials_and_names_are_told_and_never_tried_again() {
    let postgres = Postgres::options().password("s3cret").start().unwrap();
    let url = postgres.url("postgres");
    Bus::open(&url).await.unwrap().close().await.unwrap();
    for (wrong, kind, advice) in [
        (url.replace("s3cret", "guess"), ErrorKind::Denied, "password"),
        (url.replace(":s3cret", ""), ErrorKind::Denied, "password"),
        (url.replace("//postgres", "//nobody"), ErrorKind::Denied, "password"),
        (format!("{url}_of_nobody"), ErrorKind::NotFound, "database"),
        (format!("{url}?sslmode=require"), ErrorKind::Config, "TLS"),
        (format!("{url}?tls=true"), ErrorKind::Config, "TLS"),
        (format!("{url}?sslmode=verify-full&tls_ca=/no/such.pem"), ErrorKind::Config, "PEM"),
    ] {
        let error = refused(&wrong).await;
        assert_eq!(error.kind(), kind, "{error}");
        let said = format!("{error} {}", error.advice().unwrap_or_default());
        assert!(said.contains(advice) && !said.contains("guess"), "{said}");
        assert!(!error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn a_password_that_is_wrong_for_a_while_is_told_to_who_publishes_and_ends_nothing() {
    let postgres = Postgres::options().password("s3cret").start().unwrap();
    let bus = Bus::open(postgres.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&bus, "tick").await;
    postgres.psql("postgres", "ALTER ROLE postgres PASSWORD 'other'").unwrap();
    postgres.stop().unwrap();
    postgres.start_again().unwrap();
    assert_eq!(bus.publish(Event::new("tick")).await.unwrap_err().kind(), ErrorKind::Denied);
    postgres.psql("postgres", "ALTER ROLE postgres PASSWORD 's3cret'").unwrap();
    while heard.now().is_empty() {
        bus.publish(Event::new("tick")).await.unwrap();
        // sleep: nothing tells when it listens again.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_connection_left_can_heal() {
    let postgres = Postgres::options()
        .setting("max_connections", "6")
        .setting("superuser_reserved_connections", "2")
        .start()
        .unwrap();
    postgres.psql("postgres", "CREATE ROLE few LOGIN").unwrap();
    let url = postgres.url("postgres").replace("//postgres", "//few");
    let mut open = Vec::new();
    let error = loop {
        match Bus::open(&url).await {
            Ok(bus) => open.push(bus),
            Err(error) => break error,
        }
        assert!(open.len() < 10, "there is no end of connections");
    };
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("no connection left"), "{error}");
    for bus in open {
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_socket_and_several_hosts_are_ways_to_a_server() {
    let postgres = server();
    let folder = postgres.folder().display().to_string().replace('/', "%2F");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = postgres.port();
    for place in [format!("{folder}:{port}"), format!("127.0.0.1:{free},127.0.0.1:{port}")] {
        let bus = Bus::open(format!("postgres://postgres@{place}/postgres")).await.unwrap();
        bus.ping().await.unwrap();
        bus.close().await.unwrap();
    }
    let options = json!({
        "backend": "postgres", "host": "127.0.0.1", "port": port, "user": "postgres",
        "password": "", "database": "postgres", "ssl": false,
    });
    let bus = Bus::open(options).await.unwrap();
    bus.close().await.unwrap();
}

#[test]
fn settings_that_are_wrong_are_told_without_a_server() {
    for (query, why) in [
        ("prefx=a", "did you mean `prefix`?"),
        ("backlog=0", "whole number"),
        ("backlog=many", "whole number"),
        ("prefix=", "1 to 40 bytes"),
        ("schema=", "1 to 63 bytes"),
        ("spill_retention=soon", "number and a unit"),
    ] {
        let options = Options::parse(&format!("postgres://h/d?{query}")).unwrap();
        let row = railbus::backends::find(&options).unwrap();
        let error = (row.check)(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{query}");
        assert!(error.advice().unwrap().contains(why), "{query}: {error:?}");
    }
}

#[tokio::test]
async fn a_look_from_outside_changes_nothing_and_tells_what_is_there() {
    let database = server().database().unwrap();
    let options = Options::parse(&database.url("postgres")).unwrap();
    let row = railbus::backends::find(&options).unwrap();
    let found = (row.look)(&options);
    let lines: Vec<_> = found.checks.iter().map(|check| (check.name, check.status)).collect();
    let all = ["settings", "server", "pool", "queue", "spill"].map(|name| (name, Status::Ok));
    assert_eq!(lines, all, "{found:?}");
    let schemas = database.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'railbus'");
    assert_eq!(schemas.unwrap(), "0");
    let mut wrong = options.clone();
    wrong.set("database", "none");
    let found = (row.look)(&wrong);
    assert!(found.checks.iter().any(|check| check.status == Status::Fail), "{found:?}");
}
