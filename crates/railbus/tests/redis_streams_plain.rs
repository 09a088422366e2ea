//! Streams that programs of others write and read: fields, as `redis-cli` shows them.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, CachedRegistry, Error, ErrorKind, Event, Retry, backend::LetterFilter, testing::Recorder,
};
use railbus_testbed::Redis;
use std::time::Duration;

async fn plain(redis: &Redis) -> Bus {
    Bus::open(&format!("{}?format=plain", redis.url("redis-streams"))).await.unwrap()
}

#[railbus::test]
async fn what_redis_cli_adds_is_an_event_of_plain_fields() {
    let redis = Redis::start().unwrap();
    let bus = plain(&redis).await;
    let add =
        |fields: &[&str]| redis.command(&[&["XADD", "events", "*"], fields].concat()).unwrap();
    let bare = add(&["sensor", "s7", "degrees", "21.5"]);
    add(&[
        "topic",
        "shop",
        "type",
        "order.placed",
        "id",
        "e-1",
        "payload",
        r#"{"n":7}"#,
        "by",
        "till",
    ]);
    add(&["event", "login", "user", "7"]);
    let whole = r#"{"specversion":"1.0","id":"c-1","source":"/s","type":"t","data":1}"#;
    add(&["event", whole]);
    let (group, live) = (Recorder::new(), Recorder::new());
    bus.on("*").run(live.clone()).await.unwrap();
    bus.on("*").group("g").run(group.clone()).await.unwrap();
    bus.idle().await.unwrap();
    let all = group.events();
    let names: Vec<_> = all.iter().map(|e| (e.event_type(), e.topic(), e.id())).collect();
    assert_eq!(names[0], ("events", "events", &*bare));
    assert_eq!(names[1], ("order.placed", "shop", "e-1"));
    assert_eq!(names[3], ("t", "t", "c-1"));
    assert_eq!((all[0].get("sensor"), all[0].get("degrees")), (Some("s7".to_owned()), Some(21.5)));
    assert_eq!((all[1].get("n"), &*all[1].metadata()["by"]), (Some(7), "till"));
    assert_eq!((all[2].get("event"), all[2].get("user")), (Some("login".to_owned()), Some(7)));
    add(&["degrees", "22"]);
    bus.idle().await.unwrap();
    assert_eq!((group.len(), live.len()), (5, 1));
}

#[railbus::test]
async fn what_is_published_plain_is_read_as_fields_and_by_another_bus() {
    let redis = Redis::start().unwrap();
    let (bus, received) = (plain(&redis).await, Recorder::new());
    let event = Event::new("order.placed").topic("shop").id("e-1").key("k").payload([1, 2]);
    bus.publish(event.clone()).await.unwrap();
    let said = redis.command(&["XRANGE", "events", "-", "+"]).unwrap();
    let words: Vec<_> = said.lines().skip(1).collect();
    let time = event.timestamp().to_string();
    let expected = [
        "topic",
        "shop",
        "type",
        "order.placed",
        "id",
        "e-1",
        "time",
        &time,
        "payload",
        "[1,2]",
        "key",
        "k",
    ];
    assert_eq!(words, expected);
    let other = plain(&redis).await;
    other.on("order.*").group("g").run(received.clone()).await.unwrap();
    other.idle().await.unwrap();
    let read = received.events().remove(0);
    assert_eq!((read.topic(), read.id(), read.key()), ("shop", "e-1", Some("k")));
    assert_eq!((read.timestamp(), read.payload::<[u8; 2]>().unwrap()), (event.timestamp(), [1, 2]));
}

#[railbus::test]
async fn plain_events_keep_the_order_of_keys_are_tried_again_and_become_dead_letters() {
    let redis = Redis::start().unwrap();
    let (bus, received) = (plain(&redis).await, Recorder::new());
    let record = received.clone();
    let handler = async move |event: Event| {
        railbus::SyncHandler::handle(&record, &event)?;
        if event.get("n") == Some(0) { Err("never".into()) } else { railbus::done() }
    };
    for n in 0..3 {
        redis.command(&["XADD", "events", "*", "key", "a", "n", &n.to_string()]).unwrap();
    }
    let on = bus.on("events").group("g").ordered_by_key().limit(4).retry(Retry::attempts(2));
    on.run(handler).await.unwrap();
    bus.idle().await.unwrap();
    let numbers: Vec<u32> = received.events().iter().map(|e| e.get("n").unwrap()).collect();
    assert_eq!(numbers, [0, 0, 1, 2]);
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    let event = letters[0].event.as_ref().unwrap();
    assert_eq!((&*letters[0].event_id, event.get("n")), (received.events()[0].id(), Some(0)));
}

#[railbus::test]
async fn fields_of_others_are_no_events_unless_asked_for() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&redis.url("redis-streams")).await.unwrap();
    redis.command(&["XADD", "events", "*", "sensor", "s7"]).unwrap();
    let received = Recorder::new();
    bus.on("*").group("g").retry(Retry::attempts(1)).run(received.clone()).await.unwrap();
    bus.idle().await.unwrap();
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!((received.len(), letters.len()), (0, 1));
    assert!(letters[0].reason.contains("another program wrote it"), "{}", letters[0].reason);
}

#[railbus::test]
async fn a_request_that_nobody_can_answer_is_refused() {
    let redis = Redis::start().unwrap();
    let bus = plain(&redis).await;
    let asked = bus.request(Event::new("ask").payload(1), Duration::from_secs(5)).await;
    let refused = asked.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(refused.advice().unwrap().contains("format=cloudevents"), "{refused}");
    assert_eq!(redis.command(&["XLEN", "events"]).unwrap(), "0");
    // Who changed, and how, is told without metadata.
    let load = async |id: String| Ok::<_, Error>(id);
    CachedRegistry::new(load).open(&bus).await.unwrap();
}
