//! A server that restarts, hangs or dies, and networks that fail: what is confirmed, and what heals.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, PATIENCE, server};
use railbus::{Bus, ErrorKind, Event, json};
use railbus_testbed::{Fault, Postgres, Proxy};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Publishes until it is heard: the listener is back then, and the publisher too.
async fn until_heard(bus: &Bus, heard: &mut Heard) {
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "it does not heal");
        let event = Event::new("probe").payload(0);
        match bus.publish(&event).await {
            Ok(_) => {}
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
        // sleep: time for it to come back; nothing tells that it was lost
        tokio::time::sleep(Duration::from_millis(50)).await;
        if heard.now().iter().any(|heard| heard.id() == event.id()) {
            return;
        }
    }
}

#[tokio::test]
async fn a_server_that_restarts_or_is_killed_is_found_again() {
    let postgres = Postgres::start().unwrap();
    let bus = Bus::open(postgres.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&bus, "probe").await;
    until_heard(&bus, &mut heard).await;
    postgres.stop().unwrap();
    postgres.start_again().unwrap();
    until_heard(&bus, &mut heard).await;
    postgres.kill().unwrap();
    postgres.start_again().unwrap();
    until_heard(&bus, &mut heard).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn publishing_waits_for_a_server_that_is_away_and_gives_up_in_time() {
    let postgres = Postgres::start().unwrap();
    let options = json!({ "url": postgres.url("postgres"), "connect_timeout": "2s" });
    let bus = Bus::open(options).await.unwrap();
    postgres.stop().unwrap();
    let error = bus.publish(Event::new("tick")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let waiting = bus.clone();
    let waiting = tokio::spawn(async move { waiting.publish(Event::new("tick")).await });
    postgres.start_again().unwrap();
    // Whether it was in time is a matter of how fast the server starts.
    if let Err(error) = waiting.await.unwrap() {
        assert!(error.is_retryable(), "{error}");
    }
    bus.publish(Event::new("tick")).await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test]
async fn connections_that_an_admin_ends_are_made_again() {
    let database = server().database().unwrap();
    let bus = Bus::open(database.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&bus, "probe").await;
    for _ in 0..3 {
        let ended = database.psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert!(ended.unwrap().parse::<u32>().unwrap() >= 2);
        until_heard(&bus, &mut heard).await;
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_network_that_breaks_in_any_way_heals_and_stalls_nobody_for_longer_than_it_may() {
    let database = server().database().unwrap();
    let proxy = Proxy::to(server().address()).unwrap();
    let url = proxy.url_of(&database.url("postgres"));
    let options = json!({ "url": url, "connect_timeout": "1s", "statement_timeout": "1s" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, "probe").await;
    until_heard(&bus, &mut heard).await;
    proxy.reset();
    until_heard(&bus, &mut heard).await;
    for fault in [Fault::Refuse, Fault::BlackHole, Fault::HalfOpen] {
        proxy.fault(fault);
        let began = Instant::now();
        let error = bus.publish(Event::new("lost")).await.unwrap_err();
        assert!(error.is_retryable(), "{fault:?}: {error}");
        // A statement that hangs, and what there is of connecting beside it.
        assert!(began.elapsed() < Duration::from_secs(10), "{fault:?}: {:?}", began.elapsed());
        proxy.fault(Fault::None);
        proxy.reset();
        until_heard(&bus, &mut heard).await;
    }
    proxy.fault(Fault::Latency(Duration::from_millis(100)));
    until_heard(&bus, &mut heard).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_listener_whose_line_was_cut_in_silence_notices_by_itself() {
    let database = server().database().unwrap();
    let proxy = Proxy::to(server().address()).unwrap();
    let url = proxy.url_of(&database.url("postgres"));
    let options = json!({ "url": url, "connect_timeout": "1s", "statement_timeout": "1s" });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, "probe").await;
    let before = proxy.accepted();
    proxy.fault(Fault::HalfOpen);
    let began = Instant::now();
    // Nobody publishes: it asks.
    while proxy.accepted() == before {
        assert!(began.elapsed() < PATIENCE, "it does not notice");
        // sleep: between two looks at what the proxy counts
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.fault(Fault::None);
    proxy.reset();
    until_heard(&bus, &mut heard).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_stalls_nobody_and_closing_neither() {
    let postgres = Postgres::start().unwrap();
    let options = json!({
        "url": postgres.url("postgres"), "connect_timeout": "1s", "statement_timeout": "1s",
    });
    let bus = Bus::open(options).await.unwrap();
    let mut heard = Heard::on(&bus, "probe").await;
    postgres.pause().unwrap();
    let error = bus.publish(Event::new("tick")).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    postgres.resume().unwrap();
    until_heard(&bus, &mut heard).await;
    postgres.pause().unwrap();
    let began = Instant::now();
    bus.close_within(Duration::from_secs(2)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    postgres.resume().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_while_lines_break_was_notified() {
    let database = server().database().unwrap();
    let proxy = Proxy::to(server().address()).unwrap();
    let publishing = Bus::open(proxy.url_of(&database.url("postgres"))).await.unwrap();
    // Its own line does not break: it hears all that is notified.
    let listening = Bus::open(database.url("postgres")).await.unwrap();
    let mut heard = Heard::on(&listening, "tick").await;
    let mut publishers = JoinSet::new();
    for _ in 0..16 {
        let bus = publishing.clone();
        publishers.spawn(async move {
            let mut confirmed = Vec::new();
            for _ in 0..2_000 {
                let event = Event::new("tick").payload("x");
                match bus.publish(&event).await {
                    Ok(_) => confirmed.push(event.id().to_owned()),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
            confirmed
        });
    }
    for _ in 0..3 {
        // sleep: so that something is on its way whenever a line breaks
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.reset();
    }
    let mut confirmed = Vec::new();
    while let Some(done) = publishers.join_next().await {
        confirmed.extend(done.unwrap());
    }
    while !listening.is_quiet().await.unwrap() {}
    let seen: std::collections::HashSet<_> =
        heard.now().iter().map(|event| event.id().to_owned()).collect();
    let lost = confirmed.iter().filter(|id| !seen.contains(*id)).count();
    assert!(!confirmed.is_empty() && lost == 0, "{lost} of {} are lost", confirmed.len());
    publishing.close().await.unwrap();
    listening.close().await.unwrap();
}
