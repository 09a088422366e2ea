//! What the dataknobs document's code does, where it is right: `docs/differences.md` lists each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Payload, Result, Type, Value,
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    json, topic,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

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

/// A backend as a program may bring one: it writes down what is published.
#[derive(Debug, Default)]
struct Written(Mutex<Vec<String>>);

const WRITTEN: Capability = Capability::inline("written");

#[async_trait::async_trait]
impl Backend for Written {
    fn capability(&self) -> &Capability {
        &WRITTEN
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let mut lines = self.0.lock().unwrap();
        batch.iter().map(|outgoing| outgoing.event.to_json().map(|json| lines.push(json))).collect()
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
        Err(WRITTEN.refuse("subscribe", "has no groups", &[]))
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_bus_works_over_a_backend_of_the_programs_own() {
    let backend = Arc::new(Written::default());
    let bus = Bus::over(Arc::<Written>::clone(&backend));
    let seen = record(&bus, "t").await;
    bus.publish_all(&[updated("t").into(), updated("u").into()]).await;
    assert_eq!(count(&seen), 1);
    assert_eq!(backend.0.lock().unwrap().len(), 2);
    let refused = bus.on("a").group("g").run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(refused.to_string(), "subscribe: written has no groups");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn while_a_bus_drains_subscribing_is_an_error() {
    let bus = Bus::new();
    let draining = bus.drain();
    let refused = bus.on("a").run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    draining.finish(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_handler_may_close_its_own_bus() {
    let bus = Bus::new();
    let closed = Arc::new(OnceLock::new());
    let keep = Arc::clone(&closed);
    let close = async move |_: Event, bus: Bus| keep.set(bus.close().await.is_ok()).unwrap();
    bus.on("stop").run(close).await.unwrap();
    assert!(bus.publish(Event::new("stop")).await.unwrap().failures.is_empty());
    assert_eq!(closed.get(), Some(&true));
    bus.close().await.unwrap();
    assert_eq!(bus.publish(Event::new("stop")).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_dispatch_begun_while_the_bus_drains_is_awaited_too() {
    let bus = Bus::new();
    let (outer, inner, through) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (begun, go, done) = (Arc::clone(&outer), Arc::clone(&inner), Arc::clone(&through));
    bus.on("first")
        .run(async move |_: Event, bus: Bus| {
            begun.notify_one();
            go.notified().await;
            bus.publish(Event::new("second")).await.map(drop)
        })
        .await
        .unwrap();
    let second = async move |_: Event| {
        tokio::task::yield_now().await;
        done.add_permits(1);
    };
    bus.on("second").run(second).await.unwrap();
    let publisher = bus.clone();
    let publishing = tokio::spawn(async move { publisher.publish(Event::new("first")).await });
    outer.notified().await;
    let draining = bus.drain();
    inner.notify_one();
    draining.finish(Duration::from_secs(30)).await.unwrap();
    assert_eq!(through.available_permits(), 1, "close did not wait for the second dispatch");
    assert!(publishing.await.unwrap().unwrap().failures.is_empty());
}
