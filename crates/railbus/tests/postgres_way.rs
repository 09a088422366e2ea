//! The way to a server: encrypted or not, past a pool or through it.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, server};
use railbus::{
    Bus, ErrorKind, Event,
    backends::{checkup::Status, find},
    json,
    options::Options,
};
use railbus_testbed::{PgBouncer, Postgres};
use std::path::Path;

/// Publishes one event and hears it.
async fn works(bus: &Bus) {
    let mut heard = Heard::on(bus, "tick").await;
    let event = Event::new("tick").payload("x".repeat(10_000));
    bus.publish(&event).await.unwrap();
    assert_eq!(heard.next().await, event);
}

/// Opens the server in the same place with other settings.
async fn open(postgres: &Postgres, settings: &[(&str, &str)]) -> railbus::Result<Bus> {
    let mut map = json!({
        "backend": "postgres", "host": "localhost", "port": postgres.port(), "user": "postgres",
        "database": "postgres",
    });
    for (key, value) in settings {
        map[*key] = json!(value);
    }
    Bus::open(map).await
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[tokio::test]
async fn every_mode_encrypts_and_trusts_as_psql_does() {
    let postgres = Postgres::options().tls(true).start().unwrap();
    let (ca, strangers) = (text(&postgres.ca_path()), text(&postgres.strangers_ca_path()));
    for settings in [
        &[("sslmode", "allow")][..],
        &[("sslmode", "prefer")],
        &[("sslmode", "require")],
        &[("tls_ca", ca.as_str())],
        &[("tls", "true"), ("tls_ca", &ca)],
        &[("sslmode", "verify-ca"), ("sslrootcert", &ca)],
        &[("sslmode", "verify-full"), ("tls_ca", &ca), ("host", "127.0.0.1")],
    ] {
        let bus = open(&postgres, settings).await.unwrap_or_else(|e| panic!("{settings:?}: {e}"));
        works(&bus).await;
        let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE application_name = 'railbus' AND ssl";
        let expected = if settings[0].1 == "allow" { 0..=2 } else { 2..=2 };
        let found: u32 = postgres.psql("postgres", encrypted).unwrap().parse().unwrap();
        assert!(expected.contains(&found), "{settings:?}: {found}");
        bus.close().await.unwrap();
    }
    for settings in [
        &[("tls", "true")][..],
        &[("tls_ca", strangers.as_str())],
        &[("sslmode", "verify-ca"), ("tls_ca", &strangers)],
        // With an authority, require asks it.
        &[("sslmode", "require"), ("tls_ca", &strangers)],
    ] {
        let error = open(&postgres, settings).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{settings:?}: {error}");
        assert!(error.advice().unwrap().contains("tls_ca"), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_enough_unless_the_name_counts() {
    let postgres = Postgres::options().certificate_for(&["elsewhere"]).tls(true).start().unwrap();
    let ca = text(&postgres.ca_path());
    let bus = open(&postgres, &[("sslmode", "verify-ca"), ("tls_ca", &ca)]).await.unwrap();
    works(&bus).await;
    bus.close().await.unwrap();
    let full = open(&postgres, &[("sslmode", "verify-full"), ("tls_ca", &ca)]).await;
    assert_eq!(full.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it_or_lets_nobody_in() {
    let postgres = Postgres::options().client_certificates().start().unwrap();
    let (ca, cert, key) = (
        text(&postgres.ca_path()),
        text(&postgres.client_cert_path()),
        text(&postgres.client_key_path()),
    );
    let mine = [("tls_ca", ca.as_str()), ("tls_cert", &cert), ("tls_key", &key)];
    let bus = open(&postgres, &mine).await.unwrap();
    works(&bus).await;
    bus.close().await.unwrap();
    let error = open(&postgres, &mine[..1]).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn behind_a_pool_that_lends_by_transaction_publishing_works_and_listening_is_refused() {
    let database = server().database().unwrap();
    let bouncer = PgBouncer::before(server()).unwrap();
    let url = bouncer.url_of(&database.url("postgres"));
    let bus = Bus::open(format!("{url}?statement_timeout=2s")).await.unwrap();
    let direct = Bus::open(database.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&direct, "tick").await;
    for n in 0..50_u32 {
        bus.publish(Event::new("tick").payload(n)).await.unwrap();
    }
    let batch: Vec<_> = (50..100_u32).map(|n| Event::new("tick").payload(n).into()).collect();
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
    for n in 0..100 {
        assert_eq!(heard.next().await.payload::<u32>().unwrap(), n);
    }
    let refused = bus.on("tick").run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.advice().unwrap().contains("poll_only"), "{refused:?}");
    let options = Options::parse(&url).unwrap();
    let look = (find(&options).unwrap().look)(&options);
    let pool = look.checks.iter().find(|check| check.name == "pool").unwrap();
    assert_eq!(pool.status, Status::Warn, "{look:?}");
    bus.close().await.unwrap();
    direct.close().await.unwrap();
}

#[tokio::test]
async fn behind_a_pool_that_lends_by_session_all_works() {
    let database = server().database().unwrap();
    let bouncer = PgBouncer::with(server(), &[("pool_mode", "session")]).unwrap();
    let bus = Bus::open(bouncer.url_of(&database.url("postgres"))).await.unwrap();
    works(&bus).await;
    bus.close().await.unwrap();
}
