//! What the dataknobs document's code does, where it is right: `docs/differences.md` lists each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, Payload, Type, Value, json, topic};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

type Seen = Arc<Mutex<Vec<Event>>>;

async fn record(bus: &Bus, pattern: &str) -> Seen {
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    let on = bus.on(topic(pattern)).run(async move |event: Event| keep.lock().unwrap().push(event));
    on.await.unwrap();
    seen
}

fn updated(topic: &str) -> Event {
    Event::new(Type::UPDATED).topic(topic).payload(json!({"bot_id": "b1"}))
}

fn count(seen: &Seen) -> usize {
    seen.lock().unwrap().len()
}

#[test]
fn the_seven_types_have_their_texts() {
    let all = [
        Type::CREATED,
        Type::UPDATED,
        Type::DELETED,
        Type::ACTIVATED,
        Type::DEACTIVATED,
        Type::ERROR,
        Type::CUSTOM,
    ];
    let texts = ["created", "updated", "deleted", "activated", "deactivated", "error", "custom"];
    assert_eq!(all, texts);
}

#[test]
fn an_event_goes_through_its_map_and_back_with_every_field() {
    let event = Event::new("order.placed")
        .id("e-1")
        .topic("shop")
        .source("web")
        .correlation("c-1")
        .causation("e-0")
        .schema("2")
        .metadata("tenant", "north")
        .payload(json!({"lines": [1, 2.5, null, "x"]}));
    let back = Event::from_map(&event.to_map().unwrap()).unwrap();
    assert_eq!(back, event);
    let text = event.to_json().unwrap();
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
}

#[test]
fn what_is_not_given_has_a_default() {
    let event = Event::from_map(json!({"type": "a"}).as_object().unwrap()).unwrap();
    assert_eq!((event.topic(), event.source(), event.causation_id()), ("a", "", None));
    assert!(event.metadata().is_empty() && event.schema().is_none());
}

#[test]
fn id_and_time_are_made_where_they_are_not_given() {
    let (a, b) = (Event::new("a").payload(1), Event::new("a").payload(1));
    assert_ne!(a.id(), b.id());
    assert_eq!(a.id().len(), 36);
    assert!(a.timestamp() <= b.timestamp() && a.timestamp().as_micros() > 0);
}

#[test]
fn an_event_with_a_correlation_keeps_what_else_it_is() {
    let event = Event::new("a").id("e-1").correlation("c-1").payload(1);
    assert_eq!((event.id(), event.event_type(), event.correlation_id()), ("e-1", "a", "c-1"));
}

#[test]
fn a_subscription_shows_its_id_and_its_topic_or_pattern() {
    let bus = Bus::new();
    let show = |which| format!("{:?}", bus.on(topic(which)).run(|_: &Event| {}).now().unwrap());
    assert!(show("a").contains('1') && show("a").contains("topic a"));
    assert!(show("registry:*").contains("topic registry:*"));
}

#[tokio::test]
async fn nothing_is_subscribed_any_more_once_the_bus_is_closed() {
    let bus = Bus::new();
    let seen = record(&bus, "t").await;
    assert!(bus.publish(updated("t")).await.unwrap().matched == 1);
    bus.close().await.unwrap();
    assert!(bus.publish(updated("t")).await.is_err());
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn one_publish_is_one_event_with_its_payload() {
    let bus = Bus::new();
    let seen = record(&bus, "t").await;
    bus.publish(Event::new(Type::CREATED).topic("t").payload(json!({"key": "value"})))
        .await
        .unwrap();
    let events = seen.lock().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].get("key"), Some("value"));
}

#[tokio::test]
async fn two_subscribers_get_one_event_each() {
    let bus = Bus::new();
    let (a, b) = (record(&bus, "t").await, record(&bus, "t").await);
    bus.publish(updated("t")).await.unwrap();
    assert_eq!((count(&a), count(&b)), (1, 1));
}

#[tokio::test]
async fn a_pattern_gets_two_of_three_topics() {
    let bus = Bus::new();
    let seen = record(&bus, "registry:*").await;
    for t in ["registry:bots", "registry:users", "other:topic"] {
        bus.publish(updated(t)).await.unwrap();
    }
    assert_eq!(count(&seen), 2);
}

#[tokio::test]
async fn cancelling_stops_the_delivery() {
    let bus = Bus::new();
    let seen = Seen::default();
    let keep = Arc::clone(&seen);
    let on = bus.on(topic("t")).run(async move |event: Event| keep.lock().unwrap().push(event));
    let subscription = on.await.unwrap();
    bus.publish(updated("t")).await.unwrap();
    subscription.cancel();
    bus.publish(updated("t")).await.unwrap();
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn publishing_to_nobody_is_fine() {
    let report = Bus::new().publish(updated("t")).await.unwrap();
    assert_eq!((report.matched, report.failures.len()), (0, 0));
}

#[tokio::test]
async fn a_handler_that_fails_does_not_stop_the_other() {
    let bus = Bus::new();
    bus.on(topic("t")).run(async |_: Event| Err::<(), _>("broken")).await.unwrap();
    let seen = record(&bus, "t").await;
    assert_eq!(bus.publish(updated("t")).await.unwrap().failures.len(), 1);
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn a_sync_handler_is_as_good_as_an_async_one() {
    let (bus, seen) = (Bus::new(), Seen::default());
    let keep = Arc::clone(&seen);
    bus.on(topic("t")).run(move |e: &Event| keep.lock().unwrap().push(e.clone())).await.unwrap();
    bus.publish(updated("t")).await.unwrap();
    assert_eq!(count(&seen), 1);
}

#[tokio::test]
async fn an_audit_by_pattern_and_an_invalidation_by_topic_work_side_by_side() {
    let bus = Bus::new();
    let cache = Arc::new(Mutex::new(HashMap::from([("b1".to_owned(), 1)])));
    let audit = record(&bus, "registry:*").await;
    let cached = Arc::clone(&cache);
    bus.on(topic("registry:bots"))
        .run(async move |bot: Payload<Value>| {
            cached.lock().unwrap().remove(bot["bot_id"].as_str().unwrap_or_default());
        })
        .await
        .unwrap();
    bus.publish(updated("registry:bots")).await.unwrap();
    bus.publish(updated("registry:users")).await.unwrap();
    assert!(cache.lock().unwrap().is_empty());
    assert_eq!(count(&audit), 2);
}

#[tokio::test]
async fn three_events_under_one_correlation_id_share_it() {
    let bus = Bus::new();
    let seen = record(&bus, "*").await;
    for t in ["a", "b", "c"] {
        bus.publish(Event::new(t).correlation("c-1").payload(1)).await.unwrap();
    }
    let events = seen.lock().unwrap();
    assert!(events.iter().all(|event| event.correlation_id() == "c-1"));
    assert_eq!(events.len(), 3);
}
