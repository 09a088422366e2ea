//! Payloads that can't be encoded, or decoded.

use crate::stage::{Stage, captured};
use railbus::{
    Bus, Error, ErrorKind, Event, Payload,
    predicate::{has_key, key_equals},
    testing::Recorder,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;

/// Ways of not being encodable.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bad {
    Fails,
    Panics,
}

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fails => Err(serde::ser::Error::custom("out of words")),
            Self::Panics => panic!("no words at all"),
        }
    }
}

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self::Fails)
    }
}

fn refused(error: &Error, id: &str) {
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    assert!(error.to_string().contains(&format!("event: {id}")), "{error}");
}

/// Events that can't be encoded, and what is said of each.
fn events() -> Vec<(Event, &'static str)> {
    let odd = HashMap::from([((1, 2), 3)]);
    vec![
        (Event::new("a").id("fails").payload(Bad::Fails), "out of words"),
        (Event::new("a").id("panics").payload(Bad::Panics), "Serialize implementation panicked"),
        (Event::new("a").id("odd").payload(odd), "key must be a string"),
    ]
}

#[railbus::test]
async fn what_can_not_be_encoded_is_refused_where_it_must_leave_and_goes_where_it_need_not() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let received = Recorder::new();
        stage.on("a").named("well").run(received.clone()).await.unwrap();
        stage
            .on("a")
            .named("typed")
            .run(move |bad: Payload<Bad>| drop((*bad, held.clone())))
            .await
            .unwrap();
        for (event, why) in events() {
            let published = stage.bus.publish(&event).await;
            let other = || Event::new("b").payload(()).into();
            let batch = [other(), event.clone().into(), other()];
            let all = stage.bus.publish_all(&batch).await;
            assert_eq!([0, 2].map(|n| all[n].is_ok()), [true; 2], "{stage}: {all:?}");
            if stage.encodes() {
                let error = published.unwrap_err();
                refused(&error, event.id());
                let said = format!("{error} {}", error.advice().unwrap_or_default());
                assert!(said.contains(why), "{said}");
                refused(all[1].as_ref().unwrap_err(), event.id());
            } else {
                assert_eq!(published.unwrap().matched, 2, "{stage}");
            }
        }
        stage.bus.idle().await.unwrap();
        assert_eq!(received.len(), if stage.encodes() { 0 } else { 6 }, "{stage}");
        if !stage.encodes() && stage.grouped {
            // The one that was given as another type can't be had as a `Bad`.
            let letters = stage.letters().await;
            assert_eq!(letters.len(), 2, "{letters:?}");
            assert!(letters.iter().all(|l| l.contains("event: odd")), "{letters:?}");
        }
        stage.end(watched).await;
    }
}

#[railbus::test]
async fn emitting_what_can_not_be_encoded_is_refused_before_anything_ran() {
    let bus = Bus::open("memory:?wire=always").await.unwrap();
    let received = Recorder::new();
    bus.on("a").run(received.clone()).await.unwrap();
    for (event, _) in events() {
        refused(&bus.emit(&event).unwrap_err(), event.id());
    }
    assert!(received.is_empty());
    assert_eq!(bus.counters().published.get(), 0);
}

#[railbus::test]
async fn nothing_that_looks_into_a_payload_panics() {
    let bus = Bus::new();
    let received = Recorder::new();
    bus.on(has_key("x") | key_equals("y", 1)).run(received.clone()).now().unwrap();
    bus.on(!has_key("x")).run(received.clone()).now().unwrap();
    bus.on("a").run(|other: Payload<Vec<u8>>| drop(other)).now().unwrap();
    for (event, _) in events() {
        let report = bus.publish(&event).await.unwrap();
        let told = &report.failures[0].error;
        assert!(told.contains("the payload is not encodable"), "{told}");
        assert!(told.contains(&format!("event: {}", event.id())), "{told}");
        refused(&event.to_json().unwrap_err(), event.id());
        refused(&event.to_map().unwrap_err(), event.id());
        refused(&event.payload::<String>().unwrap_err(), event.id());
        let error = serde_json::to_string(&event).unwrap_err();
        assert!(error.to_string().contains(event.id()), "{error}");
        assert!(format!("{event:?}").contains("not encodable"));
        assert_eq!(event.get::<i64>("x"), None);
        assert_eq!(event, event.clone());
        assert_ne!(event, Event::new("a").id(event.id()).payload(1));
    }
    // And of the failures that the last one had.
    assert_eq!(received.types(), ["handler.error", "a"].repeat(3));
}

/// What panics when it is cloned, which `Event::payload` does for a value it was given.
#[derive(Serialize, Deserialize)]
struct Unique;

impl Clone for Unique {
    fn clone(&self) -> Self {
        panic!("there is only one")
    }
}

#[railbus::test]
async fn a_payload_that_can_not_be_cloned_is_its_handlers_failure() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let read = move |e: &Event| e.payload::<Unique>().map(|_| drop(held.clone()));
        stage.on("a").run(read).await.unwrap();
        stage.bus.publish(Event::new("a").payload(Unique)).await.unwrap();
        stage.bus.idle().await.unwrap();
        let failed = match stage.grouped {
            true => stage.letters().await.len() as u64,
            false => stage.bus.counters().failed.get(),
        };
        // What was encoded on its way is made anew.
        assert_eq!(failed, u64::from(!stage.encodes()), "{stage}");
        stage.end(watched).await;
    }
}

/// A list in a list, and so on.
struct Nested(u32);

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            0 => to.serialize_unit(),
            depth => to.collect_seq([Self(depth - 1)]),
        }
    }
}

#[railbus::test]
async fn a_payload_that_is_nested_deeply_comes_as_it_is_and_nothing_is_found_in_it() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let (received, found) = (Recorder::new(), Recorder::new());
        stage.on(has_key("0")).run(found.clone()).await.unwrap();
        stage.on("a").run(received.clone()).await.unwrap();
        stage.on("a").named("typed").run(move |_: Payload<Bad>| drop(held.clone())).await.unwrap();
        for depth in [100, 1_000] {
            stage.bus.publish(Event::new("a").payload(Nested(depth))).await.unwrap();
        }
        for event in received.wait_for(2).await {
            let json = event.to_json().unwrap();
            assert!(json.matches('[').count() >= 100, "{json}");
        }
        stage.bus.idle().await.unwrap();
        assert_eq!(found.len(), 1, "{stage}");
        stage.end(watched).await;
    }
}
