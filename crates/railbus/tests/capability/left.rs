//! What is left to others since a subscription was cancelled before it was called.

use super::{LEASE, Poor, event, within};
use railbus::{Bus, Event, Subscription, backends::memory::Memory, delivery::Delivery};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::{Notify, mpsc};

/// Opens two subscriptions, of which the first one called cancels the other.
async fn cancels(bus: &Bus) {
    let other = Arc::new(OnceLock::<Subscription>::new());
    let cancelled = Arc::clone(&other);
    let first = move |_: &Event| {
        if let Some(other) = cancelled.get() {
            other.cancel();
        }
    };
    let first = bus.on("a").named("first").priority(-1).group("g").lease(LEASE).run(first);
    first.await.unwrap();
    let second = |_: &Event| panic!("it was cancelled");
    let second = bus.on("a").named("second").group("g").lease(LEASE).run(second).await.unwrap();
    assert!(other.set(second).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_an_event_is_kept_for_others_gets_it() {
    let memory = Memory::default();
    let (other, _) = Poor::new(&memory, |c| c.delay_max = None).bus();
    let (takes, mut taken) = mpsc::unbounded_channel();
    let end = Arc::new(Notify::new());
    let ended = Arc::clone(&end);
    let handler = async move |d: Delivery| {
        takes.send(d.event().event_type().to_owned()).unwrap();
        if d.event().event_type() == "b" {
            ended.notified().await;
        }
    };
    let wanted = railbus::predicate::event_type("a") | railbus::predicate::event_type("b");
    let opening = other.on(wanted).named("second").group("g").limit(1).lease(LEASE).run(handler);
    opening.await.unwrap();
    let (bus, told) = Poor::new(&memory, |c| c.delay_max = None).bus();
    cancels(&bus).await;
    // It is busy with what only it wants.
    other.publish(Event::new("b").payload(0)).await.unwrap();
    assert_eq!(within(taken.recv()).await.as_deref(), Some("b"));
    bus.publish(event()).await.unwrap();
    // sleep: on a paused clock, half of the while that it is kept.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(told.verdicts().is_empty(), "it was given back at once");
    end.notify_one();
    assert_eq!(within(taken.recv()).await.as_deref(), Some("a"));
    within(other.idle()).await.unwrap();
    assert_eq!((bus.counters().unrouted.get(), bus.counters().unmatched.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_left_to_others_and_comes_back_is_left_to_them_again() {
    for delay_max in [None, Some(LEASE)] {
        let memory = Memory::default();
        let (bus, _) = Poor::new(&memory, |c| c.delay_max = delay_max).bus();
        cancels(&bus).await;
        bus.publish(event()).await.unwrap();
        within(async {
            while bus.counters().unrouted.get() < 4 {
                // sleep: on a paused clock, so that what waits goes on.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        bus.close().await.unwrap();
        assert_eq!(bus.counters().unmatched.get(), 0, "nobody else was asked");
        let (other, _) = Poor::new(&memory, |c| c.delay_max = delay_max).bus();
        let (takes, mut taken) = mpsc::unbounded_channel();
        let handler = async move |d: Delivery| takes.send(d.attempt()).unwrap();
        let opening = other.on("a").named("second").group("g").lease(LEASE).run(handler);
        opening.await.unwrap();
        within(taken.recv()).await.unwrap();
        within(other.idle()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_in_the_end_is_through() {
    let (bus, _) = Poor::new(&Memory::default(), |c| c.delay_max = None).bus();
    cancels(&bus).await;
    bus.publish(event()).await.unwrap();
    within(bus.idle()).await.unwrap();
    assert_eq!((bus.counters().unrouted.get(), bus.counters().unmatched.get()), (16, 1));
}
