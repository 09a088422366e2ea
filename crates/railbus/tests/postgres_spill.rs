//! Events that don't fit in a notification.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, PATIENCE, server};
use railbus::{Bus, ErrorKind, Event, json};
use railbus_testbed::Database;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

#[tokio::test]
async fn every_size_arrives_and_in_order() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&bus, "blob").await;
    let sizes = (7_700..8_100).step_by(7).chain([1, 0, 65_536, 3, 1 << 20, 2, 9_000, 9_001]);
    let sent: Vec<_> = sizes.map(|n| Event::new("blob").payload("é".repeat(n / 2))).collect();
    for event in &sent {
        bus.publish(event).await.unwrap();
    }
    for event in &sent {
        assert_eq!(heard.next().await, *event);
    }
    let batch: Vec<_> = sent.iter().cloned().map(Into::into).collect();
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
    for event in &sent {
        assert_eq!(heard.next().await, *event, "in a batch");
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn nothing_is_made_in_the_database_until_it_is_needed() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&bus, "blob").await;
    bus.publish(Event::new("blob").payload("small")).await.unwrap();
    heard.next().await;
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'railbus'";
    assert_eq!(database.psql(schemas).unwrap(), "0");
    bus.publish(Event::new("blob").payload("x".repeat(9_000))).await.unwrap();
    heard.next().await;
    assert_eq!(database.psql(schemas).unwrap(), "1");
    let version = database.psql("SELECT version FROM railbus.versions WHERE part = 'spilled'");
    assert_eq!(version.unwrap(), "1");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn instances_that_need_the_table_at_once_make_it_once() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let mut publishers = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        publishers.spawn(async move {
            let bus = Bus::open(url).await.unwrap();
            bus.publish(Event::new("blob").payload("x".repeat(9_000))).await.unwrap();
            bus.close().await.unwrap();
        });
    }
    while let Some(done) = publishers.join_next().await {
        done.unwrap();
    }
    assert_eq!(database.psql("SELECT count(*) FROM railbus.spilled").unwrap(), "8");
}

#[tokio::test]
async fn what_was_spilled_is_deleted_after_a_while() {
    let database = server().database().unwrap();
    let options = json!({ "url": database.url("postgres"), "spill_retention": "200ms" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, "blob").await;
    for _ in 0..3 {
        bus.publish(Event::new("blob").payload("x".repeat(9_000))).await.unwrap();
        heard.next().await;
    }
    let began = Instant::now();
    while database.psql("SELECT count(*) FROM railbus.spilled").unwrap() != "0" {
        assert!(began.elapsed() < PATIENCE, "it stays");
        // sleep: between two looks at a table that nothing tells of
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_was_deleted_before_it_was_read_ends_nothing() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    bus.publish(Event::new("blob").payload("x".repeat(9_000))).await.unwrap();
    let mut heard = Heard::on(&bus, "blob").await;
    database.psql("NOTIFY railbus, 'spilled:999'").unwrap();
    bus.publish(Event::new("blob").payload("x".repeat(9_000))).await.unwrap();
    assert_eq!(heard.next().await.payload::<String>().unwrap().len(), 9_000);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_and_one_at_it_is_not() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&bus, "blob").await;
    let most = bus.capability().payload_max;
    // With the quotes around it.
    let event = |size: usize| Event::new("blob").payload("x".repeat(size - 2));
    let refused = bus.publish(event(most + 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert!(refused.to_string().contains(&most.to_string()), "{refused}");
    bus.publish(event(most)).await.unwrap();
    assert_eq!(heard.next().await.payload::<String>().unwrap().len(), most - 2);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_user_with_the_least_rights_publishes_and_listens_and_is_told_what_it_lacks() {
    let database = server().database().unwrap();
    let name = database.name();
    let user = format!("least_{name}");
    database
        .psql(&format!("CREATE ROLE {user} LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        .unwrap();
    let url = database.url("postgres").replace("://postgres@", &format!("://{user}@"));
    let bus = Bus::open(&url).await.unwrap();
    let mut heard = Heard::on(&bus, "blob").await;
    bus.publish(Event::new("blob").payload("small")).await.unwrap();
    heard.next().await;
    let large = Event::new("blob").payload("x".repeat(9_000));
    let denied = bus.publish(&large).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied}");
    assert!(denied.advice().unwrap().contains("8000 bytes"), "{denied:?}");
    bus.publish(Event::new("blob").payload("small")).await.unwrap();
    heard.next().await;

    let owner = Bus::open(database.url("postgres")).await.unwrap();
    owner.publish(&large).await.unwrap();
    // It may not read the table: that one is told as no event, and the next one is heard.
    bus.publish(Event::new("blob").payload("after")).await.unwrap();
    assert_eq!(heard.next().await.payload::<String>().unwrap(), "after");
    database
        .psql(&format!(
            "GRANT USAGE ON SCHEMA railbus TO {user};
             GRANT SELECT, INSERT, DELETE ON railbus.spilled TO {user}"
        ))
        .unwrap();
    bus.publish(&large).await.unwrap();
    assert_eq!(heard.next().await, large);
    for bus in [bus, owner] {
        bus.close().await.unwrap();
    }
    // It deletes what is old, whoever kept it.
    let bus = Bus::open(format!("{url}?spill_retention=100ms")).await.unwrap();
    bus.publish(&large).await.unwrap();
    until_empty(&database).await;
    bus.close().await.unwrap();
}

async fn until_empty(database: &Database<'_>) {
    let emptying = async {
        while database.psql("SELECT count(*) FROM railbus.spilled").unwrap().trim() != "0" {
            // sleep: retention is a matter of time.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), emptying).await.expect("rows are left");
}

#[tokio::test]
async fn what_was_spilled_is_deleted_however_much_it_is_and_by_whoever_reads() {
    let database = server().database().unwrap();
    let url = format!("{}?spill_retention=1s", database.url("postgres"));
    let large = || Event::new("blob").payload("x".repeat(9_000));
    let writer = Bus::open(database.url("postgres")).await.unwrap();
    writer.publish(large()).await.unwrap();
    let more = "INSERT INTO railbus.spilled (body) SELECT ''::bytea FROM generate_series(1, 2500)";
    database.psql(more).unwrap();
    let reader = Bus::open(&url).await.unwrap();
    let mut heard = Heard::on(&reader, "blob").await;
    writer.publish(large()).await.unwrap();
    // It would delete after ten minutes.
    writer.close().await.unwrap();
    heard.next().await;
    until_empty(&database).await;
    reader.close().await.unwrap();
}
