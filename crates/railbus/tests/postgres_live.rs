//! Events by NOTIFY on a real server: what arrives, where, and in which order.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

// Each file uses a part of it.
#[allow(dead_code)]
#[path = "postgres_served/heard.rs"]
mod heard;

use heard::{Heard, server};
use railbus::{Bus, ErrorKind, Event, any, delivery::Then, json, topic};
use std::{collections::HashSet, time::Duration};
use tokio::task::JoinSet;

async fn open(url: &str) -> Bus {
    Bus::open(url).await.unwrap()
}

#[tokio::test]
async fn an_event_reaches_every_bus_that_is_open_as_it_was() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let (one, other) = (open(&url).await, open(&url).await);
    let mut heard = [Heard::on(&one, "order.placed").await, Heard::on(&other, any()).await];
    let event = Event::new("order.placed")
        .topic("shop")
        .source("till")
        .key("7")
        .metadata("é", "ü\u{0}\n")
        .payload(json!({"lines": [1, null, "𝄞\u{0}"]}));
    one.publish(&event).await.unwrap();
    for heard in &mut heard {
        assert_eq!(heard.next().await, event);
    }
    one.close().await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn topics_that_look_alike_or_are_odd_or_long_never_collide() {
    let database = server().database().unwrap();
    let bus = open(&database.url("postgres")).await;
    let long = "x".repeat(1_000);
    let longer = format!("{long}y");
    let topics = [
        "a:b",
        "a.b",
        "a-b",
        "a_b",
        "A:b",
        "'; DROP TABLE a; --",
        "\"quoted\"",
        "événement",
        "*",
        "$1",
        " ",
        "日本語",
        &long,
        &longer,
    ];
    let mut heard = Vec::new();
    for name in topics {
        // Not as a pattern: a star would match everything.
        let exact = name.to_owned();
        heard.push(Heard::on(&bus, move |event: &Event| event.topic() == exact).await);
    }
    for name in topics {
        bus.publish(Event::new("said").topic(name).payload(name.to_owned())).await.unwrap();
    }
    for (heard, name) in heard.iter_mut().zip(topics) {
        let event = heard.next().await;
        assert_eq!((event.topic(), event.payload::<String>().unwrap().as_str()), (name, name));
    }
    let end = Heard::on(&bus, "end").await;
    settle(&bus, end).await;
    for (heard, name) in heard.iter_mut().zip(topics) {
        assert!(heard.now().is_empty(), "{name} got what is another's");
    }
    bus.close().await.unwrap();
}

/// Waits until all that was published before has been handled.
async fn settle(bus: &Bus, mut end: Heard) {
    bus.publish(Event::new("end")).await.unwrap();
    end.next().await;
}

#[tokio::test]
async fn patterns_mean_on_the_wire_what_they_mean_in_memory() {
    let database = server().database().unwrap();
    let bus = open(&database.url("postgres")).await;
    let mut heard = Heard::on(&bus, topic("registry:[!a]*")).await;
    for name in ["registry:bots", "registry:agents", "registry", "registry:bots:config"] {
        bus.publish(Event::new("updated").topic(name)).await.unwrap();
    }
    let end = Heard::on(&bus, "end").await;
    settle(&bus, end).await;
    let topics: Vec<_> = heard.now().iter().map(|event| event.topic().to_owned()).collect();
    assert_eq!(topics, ["registry:bots", "registry:bots:config"]);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publish_at_once_and_each_ones_events_arrive_in_its_order() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let (bus, ear) = (open(&url).await, open(&url).await);
    let mut heard = Heard::on(&ear, "tick").await;
    let mut publishers = JoinSet::new();
    for publisher in 0..64_u64 {
        let bus = bus.clone();
        publishers.spawn(async move {
            for n in 0..50_u64 {
                bus.publish(Event::new("tick").payload([publisher, n])).await.unwrap();
            }
        });
    }
    while let Some(done) = publishers.join_next().await {
        done.unwrap();
    }
    let mut next = [0; 64];
    for _ in 0..64 * 50 {
        let [publisher, n] = heard.next().await.payload::<[u64; 2]>().unwrap();
        assert_eq!(next[publisher as usize], n, "of {publisher}");
        next[publisher as usize] += 1;
    }
    bus.close().await.unwrap();
    ear.close().await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_published_again_is_heard_again() {
    let database = server().database().unwrap();
    let bus = open(&database.url("postgres")).await;
    let mut heard = Heard::on(&bus, "tick").await;
    let event = Event::new("tick").payload(1);
    let batch: Vec<_> = (0..5).map(|_| event.clone().into()).collect();
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
    assert_eq!(heard.ids(5).await, vec![event.id(); 5]);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_and_what_is_wrong_holds_up_nothing() {
    let database = server().database().unwrap();
    let bus = open(&database.url("postgres")).await;
    let mut heard = Heard::on(&bus, "tick").await;
    let tick = |n: u32| Event::new("tick").payload(n);
    let batch = [tick(0).into(), Event::new("").payload(1).into(), tick(2).into()];
    let results = bus.publish_all(&batch).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidEvent);
    for n in [0, 2] {
        assert_eq!(heard.next().await.payload::<u32>().unwrap(), n);
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_it_cannot_do_is_refused_and_says_who_can() {
    let database = server().database().unwrap();
    let bus = open(&database.url("postgres")).await;
    let group = bus.on("tick").group("g").then(Then::Drop).run(|_: &Event| {}).await;
    let error = group.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.advice().unwrap().contains("memory"), "{error:?}");
    let later = Event::new("tick").delay(Duration::from_secs(1));
    assert_eq!(bus.publish(later).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(bus.keeper().is_err() && bus.journal().is_err());
    bus.close().await.unwrap();
    for closed in [bus.publish(Event::new("tick")).await.map(drop), bus.ping().await] {
        assert_eq!(closed.unwrap_err().kind(), ErrorKind::Closed);
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_others_notify_is_heard_or_told_and_ends_nothing() {
    let database = server().database().unwrap();
    let bus = open(&database.url("postgres")).await;
    let mut heard = Heard::on(&bus, any()).await;
    for poison in ["", "[1]", "nonsense", "{}", "null", "spilled:", "spilled:x", "spilled:7"] {
        database.psql(&format!("SELECT pg_notify('railbus', '{poison}')")).unwrap();
    }
    let theirs = r#"{"specversion":"1.0","id":"1","source":"psql","type":"tick","data":[1]}"#;
    database.psql(&format!("NOTIFY railbus, '{theirs}'")).unwrap();
    let event = heard.next().await;
    assert_eq!((event.id(), event.source(), event.topic()), ("1", "psql", "tick"));
    bus.publish(Event::new("tock")).await.unwrap();
    assert_eq!(heard.next().await.event_type(), "tock");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn programs_with_another_prefix_are_not_heard() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let odd = "it's \"odd\"/ü";
    let options = |prefix: &str| json!({ "url": url, "channel_prefix": prefix });
    let (mine, theirs) =
        (Bus::open(options(odd)).await.unwrap(), Bus::open(options("it's odd")).await.unwrap());
    let (mut heard, mut others) = (Heard::on(&mine, any()).await, Heard::on(&theirs, any()).await);
    mine.publish(Event::new("tick")).await.unwrap();
    assert_eq!(heard.next().await.event_type(), "tick");
    theirs.publish(Event::new("tock")).await.unwrap();
    assert_eq!(others.next().await.event_type(), "tock");
    assert!(others.now().is_empty() && heard.now().is_empty());
    mine.close().await.unwrap();
    theirs.close().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_in_utf8_carries_every_character() {
    server()
        .psql("postgres", "CREATE DATABASE latin ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'")
        .unwrap();
    let url = server().url("postgres");
    let (place, _) = url.rsplit_once('/').unwrap();
    let bus = open(&format!("{place}/latin")).await;
    let mut heard = Heard::on(&bus, "said").await;
    let texts = ["é", "日本 𝄞"].map(|text| Event::new("said").topic(text).payload(text));
    let batch: Vec<_> = texts.iter().cloned().map(Into::into).collect();
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
    let large = Event::new("said").payload("日".repeat(7_000));
    bus.publish(&large).await.unwrap();
    for event in texts.iter().chain([&large]) {
        assert_eq!(heard.next().await, *event);
    }
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_bus_is_quiet_once_all_that_was_published_is_handled() {
    let database = server().database().unwrap();
    let url = database.url("postgres");
    let (bus, other) = (open(&url).await, open(&url).await);
    let mut heard = Heard::on(&bus, any()).await;
    for _ in 0..100 {
        other.publish(Event::new("tick")).await.unwrap();
    }
    while !bus.is_quiet().await.unwrap() {}
    let ids: HashSet<_> = heard.now().iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids.len(), 100);
    bus.close().await.unwrap();
    other.close().await.unwrap();
}
