//! What the macros give: typed events, and tests that end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, IntoEvent, Payload, testing, testing::Recorder};
use serde::{Deserialize, Serialize};
use std::{future::pending, thread};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event("order.placed", topic = "orders", source = "shop", version = "1.0")]
struct OrderPlaced {
    order: String,
    lines: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event("door")]
#[serde(tag = "state")]
enum Door {
    Open,
    Shut { by: String },
}

#[derive(Serialize, Event)]
#[event("ping")]
struct Ping;

fn order() -> OrderPlaced {
    OrderPlaced { order: "A-1".into(), lines: 2 }
}

#[test]
fn what_the_attribute_says_is_in_the_envelope() {
    assert_eq!(OrderPlaced::TYPE, "order.placed");
    let event = Event::from(order());
    assert_eq!(event.event_type(), "order.placed");
    assert_eq!(event.topic(), "orders");
    assert_eq!(event.source(), "shop");
    assert_eq!(event.schema(), Some("1.0"));
    assert_eq!(event.payload::<OrderPlaced>().unwrap(), order());
    assert_eq!(event.raw_payload().text().unwrap(), r#"{"order":"A-1","lines":2}"#);
}

#[test]
fn what_the_attribute_leaves_out_is_the_default() {
    let event = Ping.into_event();
    assert_eq!((event.event_type(), event.topic()), ("ping", "ping"));
    assert_eq!((event.source(), event.schema()), ("", None));
}

#[test]
fn a_draft_takes_more_and_keeps_the_payload() {
    let draft = order().into_draft().id("evt_123").source("user-service").correlation("req_789");
    let event: Event = draft.topic("elsewhere").into();
    assert_eq!((event.id(), event.correlation_id()), ("evt_123", "req_789"));
    assert_eq!((event.source(), event.topic()), ("user-service", "elsewhere"));
    assert_eq!(event.schema(), Some("1.0"));
    assert_eq!(event.payload::<OrderPlaced>().unwrap(), order());
}

#[railbus::test]
async fn a_typed_event_reaches_a_typed_handler() -> railbus::Result<()> {
    for bus in [Bus::new(), testing::bus().await?] {
        let seen = Recorder::new();
        bus.on("door").run(seen.clone()).await?;
        bus.on(OrderPlaced::TYPE)
            .run(|placed: Payload<OrderPlaced>, bus: Bus| {
                assert_eq!(*placed, order());
                let by = placed.order.clone();
                bus.emit(Door::Shut { by }).map(drop)
            })
            .await?;
        assert_eq!(bus.publish(order()).await?.failures, []);
        assert_eq!(bus.publish(order().into_draft().id("evt_2")).await?.failures, []);
        bus.emit(Door::Open)?;
        let doors = seen.events();
        let doors: Vec<Door> = doors.iter().map(|e| e.payload().unwrap()).collect();
        let shut = Door::Shut { by: "A-1".into() };
        assert_eq!(doors, [shut.clone(), shut, Door::Open]);
    }
    Ok(())
}

#[railbus::test]
async fn a_test_may_return_nothing() {
    tokio::task::yield_now().await;
}

#[railbus::test(flavor = "multi_thread", worker_threads = 2, timeout = "1m")]
async fn a_test_has_the_threads_it_asks_for() -> Result<(), &'static str> {
    let (here, there) = (std::sync::Arc::new(std::sync::Barrier::new(2)), thread::current().id());
    let other = here.clone();
    // Two tasks that block on each other need two threads.
    let meets = tokio::spawn(async move { other.wait() });
    let met = tokio::spawn(async move { (here.wait(), thread::current().id()) });
    meets.await.map_err(|_| "did not meet")?;
    assert_ne!(met.await.map_err(|_| "did not meet")?.1, there);
    Ok(())
}

#[railbus::test]
#[should_panic(expected = "as expected")]
async fn a_test_that_panics_says_what_it_said() {
    panic!("as expected");
}

#[railbus::test(timeout = "20ms")]
#[should_panic(expected = "the test is still running after 20ms")]
async fn a_test_that_waits_for_ever_ends() {
    pending::<()>().await;
}

#[railbus::test(timeout = "20ms")]
#[should_panic(expected = "the test is still running after 20ms")]
async fn a_test_that_blocks_its_thread_ends() {
    loop {
        thread::park();
    }
}

#[railbus::test]
async fn a_test_runs_under_its_own_name() {
    assert_eq!(thread::current().name(), Some("a_test_runs_under_its_own_name"));
}

#[railbus::test]
async fn a_handler_that_never_returns_needs_no_annotation() -> railbus::Result<()> {
    let bus = testing::bus().await?;
    bus.on("a").run(|_: &Event| panic!("sync")).await?;
    bus.on("a").run(async |_: Event| panic!("async")).await?;
    let failures = bus.publish(Event::new("a")).await?.failures;
    let told: Vec<_> = failures.iter().map(|failure| format!("{failure:?}")).collect();
    assert!(told[0].contains("panicked: sync") && told[1].contains("panicked: async"), "{told:?}");
    Ok(())
}
