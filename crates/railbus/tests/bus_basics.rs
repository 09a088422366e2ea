//! The same program on memory and on the embedded store, by its URL alone: publish, subscribe,
//! fail, drain, close.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    bus::Bus,
    error::{Error, ErrorKind},
    event::{Event, Type},
    predicate::{Predicate, any, has_key, key_equals, source_is, source_starts_with, topic},
    retry::Retry,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc;

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

/// Opens a bus of each backend, with what keeps its file.
async fn buses() -> Vec<(Bus, tempfile::TempDir)> {
    let mut buses = Vec::new();
    for scheme in ["memory", "sqlite"] {
        let folder = tempfile::tempdir().unwrap();
        let url = match scheme {
            "memory" => "memory:".to_owned(),
            _ => format!("sqlite:{}", folder.path().join("events.db").display()),
        };
        buses.push((Bus::open(&url).await.unwrap(), folder));
    }
    buses
}

#[tokio::test]
async fn an_event_arrives_as_it_was_published() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        bus.on("order.placed").run(move |e: &Event| seen.send(e.clone()).unwrap()).await.unwrap();
        let event = Event::new("order.placed")
            .topic("shop:orders")
            .source("api.orders")
            .correlation("c-1")
            .causation("cause")
            .schema("v2")
            .metadata("ключ", "значение \" 🚆")
            .payload(json!({ "z": 1, "a": [1.5, null, "text"], "big": 9_007_199_254_740_993_i64 }));
        bus.publish(event.clone()).await.unwrap();
        let got = next(&mut all).await;
        assert_eq!(got, event, "{bus:?}");
        assert_eq!(got.to_json().unwrap(), event.to_json().unwrap());
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn handlers_run_by_priority_then_typed_before_catch_all_then_age() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        let on = |name: &'static str, predicate: Predicate, priority| {
            let seen = seen.clone();
            bus.on(predicate).priority(priority).run(move |_: &Event| seen.send(name).unwrap())
        };
        on("catch-all 1", any(), 1).await.unwrap();
        on("typed 1", "a".into(), 1).await.unwrap();
        on("late", "a".into(), 2).await.unwrap();
        on("typed 2", topic("a"), 1).await.unwrap();
        on("catch-all 2", topic("*"), 1).await.unwrap();
        on("first", any(), 0).await.unwrap();
        bus.publish(Event::new("a").payload(0)).await.unwrap();
        let mut order = Vec::new();
        for _ in 0..6 {
            order.push(next(&mut all).await);
        }
        let expected = ["first", "typed 1", "typed 2", "catch-all 1", "catch-all 2", "late"];
        assert_eq!(order, expected, "{bus:?}");
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn one_that_fails_or_panics_stops_nobody() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        bus.on("a").named("fails").run(|_: &Event| Err::<(), _>("no")).await.unwrap();
        bus.on("a").named("panics").run(|_: &Event| -> () { panic!("oh") }).await.unwrap();
        bus.on("a").named("async").run(async |_: Event| -> () { panic!("later") }).await.unwrap();
        bus.on("a").run(move |_: &Event| seen.send(()).unwrap()).await.unwrap();
        let report = bus.publish(Event::new("a").payload(0)).await.unwrap();
        next(&mut all).await;
        assert_eq!(report.matched, 4);
        if bus.capability().name == "memory" {
            let failures: Vec<_> = report
                .failures
                .iter()
                .map(|f| (f.subscription.as_str(), f.error.as_str()))
                .collect();
            let expected = [
                ("fails", "no"),
                ("panics", "handler: panicked: oh"),
                ("async", "handler: panicked: later"),
            ];
            assert_eq!(failures, expected);
        }
        bus.close().await.unwrap();
        assert_eq!(bus.counters().failed.get(), 3);
    }
}

#[tokio::test]
async fn a_broadcast_with_a_policy_is_tried_again() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        bus.on("a")
            .retry(Retry::attempts(3).backoff_factor(Duration::from_millis(1)))
            .run(move |d: railbus::delivery::Delivery| {
                seen.send(d.attempt()).unwrap();
                if d.attempt() < 3 { Err("not yet") } else { Ok(()) }
            })
            .await
            .unwrap();
        bus.publish(Event::new("a").payload(0)).await.unwrap();
        for attempt in 1..=3 {
            assert_eq!(next(&mut all).await, attempt);
        }
        bus.close().await.unwrap();
        assert!(all.try_recv().is_err());
    }
}

#[tokio::test]
async fn after_close_everything_is_a_typed_error_but_close() {
    for (bus, _folder) in buses().await {
        for _ in 0..100 {
            bus.close().await.unwrap();
        }
        let closed = |e: Error| assert_eq!(e.kind(), ErrorKind::Closed, "{e}");
        closed(bus.publish(Event::new("a").payload(0)).await.unwrap_err());
        closed(bus.on("a").run(|_: &Event| ()).await.unwrap_err());
        closed(bus.ping().await.unwrap_err());
    }
}

#[tokio::test]
async fn close_waits_for_what_runs_and_only_that_may_still_publish() {
    for (bus, _folder) in buses().await {
        let (begun, mut beginning) = mpsc::unbounded_channel();
        let (go, gone) = tokio::sync::watch::channel(false);
        let inner = bus.clone();
        let results = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&results);
        bus.on("slow")
            .run(async move |_: Event| {
                begun.send(()).unwrap();
                gone.clone().wait_for(|go| *go).await.unwrap();
                let published = inner.publish(Event::new("from-within").payload(0)).await;
                noted.lock().unwrap().push(published.is_ok());
            })
            .await
            .unwrap();
        let publisher = bus.clone();
        let publishing =
            tokio::spawn(async move { publisher.publish(Event::new("slow").payload(0)).await });
        next(&mut beginning).await;
        let closer = bus.clone();
        let closing = tokio::spawn(async move { closer.close().await });
        while bus.publish(Event::new("outside").payload(0)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!closing.is_finished());
        go.send_replace(true);
        closing.await.unwrap().unwrap();
        publishing.await.unwrap().unwrap();
        assert_eq!(*results.lock().unwrap(), [true], "{bus:?}");
    }
}

#[tokio::test]
async fn what_breaks_a_limit_is_refused_and_what_is_next_to_it_is_not() {
    for (bus, _folder) in buses().await {
        let long = "x".repeat(1024);
        bus.publish(Event::new(&long).topic(&long).payload(0)).await.unwrap();
        for event in [
            Event::new("").payload(0),
            Event::new("a").topic("").payload(0),
            Event::new("x".repeat(4096)).payload(0),
            Event::new("a").topic("x".repeat(4096)).payload(0),
            Event::new("a\0b").payload(0),
            Event::new("a").id("").payload(0),
        ] {
            let error = bus.publish(event).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidEvent, "{error}");
        }
        bus.close().await.unwrap();
    }
}

#[test]
fn predicates_look_into_the_envelope_and_the_payload() {
    let event = Event::new("order.placed").topic("shop:orders").source("api.v1").payload(json!({
        "total": 10, "large": 1_234_567_890_123_456_789_i64, "a.b": 1, "a": { "b": 2, "c": [{ "d": null }] }
    }));
    for (predicate, expected) in [
        (any(), true),
        ("order.*".into(), true),
        ("order".into(), false),
        (topic("shop:*"), true),
        (source_is("api.v1"), true),
        (source_is("api.*"), false),
        (source_starts_with("api."), true),
        (has_key("a.c.0.d"), true),
        (has_key("a.x"), false),
        (key_equals("total", 10.0), true),
        (key_equals("a.b", 1), true),
        (key_equals("a.b", 2), false),
        (key_equals("missing", Value::Null), false),
        (key_equals("a.c.0.d", Value::Null), true),
        (key_equals("large", 1_234_567_890_123_456_789_i64), true),
        (key_equals("large", 1_234_567_890_123_456_788_i64), false),
        (has_key("total") & !has_key("dry_run"), true),
        (topic("x") | source_is("api.v1"), true),
        ((|e: &Event| e.topic().ends_with("orders")).into(), true),
    ] {
        assert_eq!(predicate.matches(&event), expected, "{predicate}");
    }
}

#[test]
fn an_event_goes_to_a_map_and_back_in_the_documents_order() {
    let event = Event::new(Type::CREATED).id("1").payload(json!({ "b": 1, "a": 2 }));
    let map = event.to_map().unwrap();
    let keys: Vec<_> = map.keys().map(String::as_str).collect();
    assert_eq!(keys, ["id", "type", "topic", "source", "payload", "timestamp"]);
    assert_eq!(Event::from_map(&map).unwrap(), event);
    assert_eq!(serde_json::from_str::<Event>(&event.to_json().unwrap()).unwrap(), event);
    assert!(event.to_json().unwrap().contains(r#""payload":{"b":1,"a":2}"#));
    let unknown = json!({ "type": "never.heard.of" }).as_object().unwrap().clone();
    assert_eq!(Event::from_map(&unknown).unwrap().event_type(), "never.heard.of");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u32,
}

#[tokio::test]
async fn a_payload_is_the_type_it_was_given_as() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        bus.on("a")
            .run(move |order: railbus::handler::Payload<Order>| {
                seen.send(order.into_inner()).unwrap();
            })
            .await
            .unwrap();
        bus.publish(Event::new("a").payload(Order { id: 7 })).await.unwrap();
        assert_eq!(next(&mut all).await, Order { id: 7 });
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_subscription_is_not_called_any_more() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        let (first, last) = (seen.clone(), seen);
        let one = bus.on("a").run(move |_: &Event| first.send("one").unwrap()).await.unwrap();
        bus.on("a").priority(9).run(move |_: &Event| last.send("last").unwrap()).await.unwrap();
        one.cancel();
        one.cancel();
        assert!(!bus.unsubscribe(one.id()));
        bus.publish(Event::new("a").payload(0)).await.unwrap();
        assert_eq!(next(&mut all).await, "last");
        bus.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_the_backend_can_not_do_is_refused_with_one_that_can() {
    let bus = Bus::open("memory:").await.unwrap();
    let at = railbus::backend::Start::At(railbus::clock::Timestamp::now());
    let error = bus.on("a").group("g").from(at).run(|_: &Event| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.advice().unwrap().contains("sqlite"), "{error}");
    let error = bus.on("registry:bots").run(|_: &Event| ()).await.unwrap_err();
    assert!(error.advice().unwrap().contains("topic("), "{error}");
    let hidden = Predicate::from("registry:bots") & has_key("x");
    let error = bus.on(hidden).run(|_: &Event| ()).await.unwrap_err();
    assert!(error.advice().unwrap().contains("topic("), "{error}");
}

#[tokio::test]
async fn a_predicate_that_panics_is_a_failure_of_its_subscription_alone() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        bus.on(|e: &Event| e.get::<i64>("n").expect("an n") > 3)
            .named("strict")
            .run(|_: &Event| ())
            .await
            .unwrap();
        bus.on("a").run(move |_: &Event| seen.send(()).unwrap()).await.unwrap();
        bus.publish(Event::new("a").payload(json!({}))).await.unwrap();
        bus.publish(Event::new("a").payload(json!({ "n": 4 }))).await.unwrap();
        next(&mut all).await;
        next(&mut all).await;
        bus.close().await.unwrap();
        let counters = bus.counters();
        assert_eq!((counters.failed.get(), counters.succeeded.get()), (1, 3), "{bus:?}");
    }
}

#[tokio::test]
async fn nothing_starts_after_close() {
    for (bus, _folder) in buses().await {
        let (seen, mut all) = mpsc::unbounded_channel();
        bus.on("a")
            .retry(Retry::attempts(2).backoff_factor(Duration::from_millis(300)))
            .run(move |_: &Event| {
                seen.send(()).unwrap();
                Err::<(), _>("again, please")
            })
            .await
            .unwrap();
        bus.publish(Event::new("a").payload(0)).await.unwrap();
        next(&mut all).await;
        bus.close_within(Duration::from_millis(10)).await.unwrap();
        // The retry ends by itself and drops its sender, without another call.
        drop(bus);
        assert!(all.recv().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn memory_holds_an_event_back_until_its_delay_has_passed() {
    let bus = Bus::new();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("later").run(move |e: &Event| seen.send(e.id().to_owned()).unwrap()).await.unwrap();
    let later = Event::new("later").delay(Duration::from_secs(3600)).payload(1);
    let began = tokio::time::Instant::now();
    assert_eq!(bus.publish(&later).await.unwrap().matched, 1);
    assert!(all.try_recv().is_err());
    assert_eq!(all.recv().await.unwrap(), later.id());
    assert!(began.elapsed() >= Duration::from_secs(3600));
}
