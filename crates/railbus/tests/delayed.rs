//! Events that are held back: when they come, and how they are withdrawn.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "by_key/stores.rs"]
mod stores;

use railbus::{
    Bus, ErrorKind, Event,
    backend::{Backend, Capability, Order, Outgoing, Settle, Source, Start, Subscribe, Verdict},
    backends::memory::Memory,
    clock::Timestamp,
    predicate::Interest,
    testing::Recorder,
};
use std::{sync::Arc, time::Duration};
use stores::{Store, quick};
use tokio::sync::Notify;

const HOUR: Duration = Duration::from_secs(3600);

async fn lag(bus: &Bus) -> u64 {
    bus.keeper().unwrap().groups().await.unwrap().iter().map(|group| group.lag).sum()
}

#[railbus::test]
async fn what_is_withdrawn_comes_to_nobody() {
    for store in Store::that(|c| c.withdraws) {
        let (bus, other) = (store.bus().await, store.bus().await);
        let received = Recorder::new();
        for group in ["g", "h"] {
            bus.on("a").group(group).run(received.clone()).await.unwrap();
        }
        bus.on("a").run(received.clone()).await.unwrap();
        bus.publish(Event::new("a").id("late").delay(HOUR).payload(1)).await.unwrap();
        bus.publish(Event::new("a").id("later").delay(HOUR).payload(2)).await.unwrap();
        let soon = Event::new("a").id("soon").delay(Duration::from_millis(100)).payload(3);
        bus.publish(soon).await.unwrap();
        // Whether or not the groups have looked at it by now.
        received.wait_for(3).await;
        assert!(bus.withdraw("late").await.unwrap(), "{store}");
        assert!(!bus.withdraw("late").await.unwrap(), "{store}");
        // By another bus on the store, which may hold back broadcasts of its own only.
        assert!(other.withdraw("later").await.unwrap(), "{store}");
        bus.withdraw("later").await.unwrap();
        bus.idle().await.unwrap();
        let ids: Vec<_> = received.events().iter().map(|e| e.id().to_owned()).collect();
        assert_eq!((ids, lag(&bus).await), (vec!["soon".to_owned(); 3], 0), "{store}");
    }
}

#[railbus::test]
async fn what_is_due_or_tried_again_is_not_withdrawn() {
    for store in Store::that(|c| c.withdraws) {
        let (bus, received) = (store.bus().await, Recorder::new());
        let record = received.clone();
        let handler = async move |e: Event| {
            railbus::SyncHandler::handle(&record, &e)?;
            if record.len() == 1 { Err("not yet".into()) } else { railbus::done() }
        };
        let wait = Duration::from_millis(300);
        let on = bus.on("a").group("g").lease(wait).retry(quick(2).backoff_factor(wait));
        on.run(handler).await.unwrap();
        bus.publish(Event::new("a").id("now").payload(1)).await.unwrap();
        received.wait_for(1).await;
        // It is held back, but as one that was delivered.
        assert!(!bus.withdraw("now").await.unwrap(), "{store}");
        assert!(!bus.withdraw("never").await.unwrap(), "{store}");
        bus.idle().await.unwrap();
        assert_eq!(received.len(), 2, "{store}");
    }
}

#[railbus::test]
async fn what_was_handed_out_and_given_back_is_not_withdrawn() {
    for store in Store::that(|c| c.withdraws) {
        let backend = store.backend().await;
        let group = Subscribe {
            group: Some("g".into()),
            interest: Interest::all(),
            start: Start::Newest,
            lease: HOUR,
            order: Order::Any,
        };
        let source = backend.subscribe(group).await.unwrap();
        for event in [Event::new("a"), Event::new("a").delay(Duration::from_millis(1))] {
            let event = event.payload(1);
            backend.publish(&[event.clone().into()]).await.remove(0).unwrap();
            let leased = source.fetch(1).await.unwrap();
            let release = Verdict::Release { delay: HOUR };
            let settle = [Settle::new(leased[0].receipt.clone(), release)];
            source.settle(&settle).await.remove(0).unwrap();
            assert!(!backend.withdraw(event.id()).await.unwrap(), "{store}");
        }
        let groups = backend.keeper().unwrap().groups().await.unwrap();
        assert_eq!(groups[0].lag, 2, "{store}");
    }
}

#[railbus::test]
async fn many_that_are_withdrawn_while_they_become_due_come_whole_or_not_at_all() {
    for store in Store::that(|c| c.withdraws) {
        let (bus, received) = (store.bus().await, Recorder::new());
        bus.on("a").group("g").run(received.clone()).await.unwrap();
        let id = |n: u64| format!("e-{n}");
        for n in 0..100 {
            let delay = Duration::from_micros(1000 + n * 300);
            bus.publish(Event::new("a").id(id(n)).delay(delay).payload(n)).await.unwrap();
        }
        let mut left = 100;
        for n in (0..100).rev() {
            left -= usize::from(bus.withdraw(&id(n)).await.unwrap());
        }
        bus.idle().await.unwrap();
        assert_eq!((received.len(), lag(&bus).await), (left, 0), "{store}");
    }
}

#[railbus::test]
async fn an_event_for_a_time_comes_then_and_one_for_the_past_at_once() {
    for store in Store::that(|c| c.publish_delay_max.is_some()) {
        let (bus, received) = (store.bus().await, Recorder::new());
        bus.on("a").group("g").run(received.clone()).await.unwrap();
        let then = Timestamp::now().after(Duration::from_millis(200));
        bus.publish(Event::new("a").id("then").deliver_at(then).payload(1)).await.unwrap();
        let past = Timestamp::now().before(HOUR);
        bus.publish(Event::new("a").id("past").deliver_at(past).payload(2)).await.unwrap();
        bus.idle().await.unwrap();
        assert!(Timestamp::now() >= then, "{store}");
        let ids: Vec<_> = received.events().iter().map(|e| e.id().to_owned()).collect();
        assert_eq!(ids, ["past", "then"], "{store}");
    }
}

#[railbus::test]
async fn an_event_for_a_time_is_held_back_for_what_is_left_when_it_is_published() {
    let event = Event::new("a").deliver_at(Timestamp::now().after(HOUR)).payload(1);
    let first = event.delay().unwrap();
    let later = Timestamp::now().after(Duration::from_millis(2));
    while Timestamp::now() < later {
        tokio::task::yield_now().await;
    }
    let second = event.delay().unwrap();
    assert!(second < first, "{first:?}, and later {second:?}");
}

#[railbus::test]
async fn what_is_held_back_keeps_no_bus_that_nobody_has() {
    let memory = Memory::default();
    let received = Recorder::new();
    let bus = Bus::over(Arc::new(memory.connect()));
    bus.on("a").group("g").run(received.clone()).await.unwrap();
    bus.on("later").run(received.clone()).await.unwrap();
    bus.publish(Event::new("later").delay(HOUR).payload(1)).await.unwrap();
    let left = Arc::new(());
    let held = Arc::clone(&left);
    bus.on("b").run(move |_: &Event| drop(Arc::clone(&held))).await.unwrap();
    drop(bus);
    // The handlers go with the bus.
    while Arc::strong_count(&left) > 1 {
        tokio::task::yield_now().await;
    }
}

#[railbus::test]
async fn a_handler_may_withdraw_while_its_bus_drains() {
    let memory = Memory::default();
    let bus = Bus::over(Arc::new(memory.connect()));
    let (begun, goes) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, go) = (Arc::clone(&begun), Arc::clone(&goes));
    let (says, mut said) = tokio::sync::mpsc::unbounded_channel();
    let mine = bus.clone();
    let handler = async move |_: Event| {
        begins.notify_one();
        go.notified().await;
        let _ = says.send(mine.withdraw("late").await.map_err(|e| e.to_string()));
    };
    bus.on("a").group("g").run(handler).await.unwrap();
    bus.on("late").group("g").run(|_: &Event| panic!("withdrawn")).await.unwrap();
    bus.publish(Event::new("late").id("late").delay(HOUR).payload(1)).await.unwrap();
    bus.publish(("a", 1)).await.unwrap();
    begun.notified().await;
    let draining = bus.drain();
    goes.notify_one();
    assert_eq!(said.recv().await, Some(Ok(true)));
    draining.finish(HOUR).await.unwrap();
}

/// A queue that gives back nothing.
#[derive(Debug)]
struct Queue(Capability);

#[async_trait::async_trait]
impl Backend for Queue {
    fn capability(&self) -> &Capability {
        &self.0
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<railbus::Result<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn subscribe(&self, _: Subscribe) -> railbus::Result<Arc<dyn Source>> {
        panic!("nobody subscribes")
    }

    async fn ping(&self) -> railbus::Result<()> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> railbus::Result<()> {
        Ok(())
    }
}

#[railbus::test]
async fn a_backend_that_withdraws_nothing_says_who_does() {
    let mut capability = Capability::inline("queue");
    capability.broadcast = railbus::backend::Broadcast::Live;
    let error = Bus::over(Arc::new(Queue(capability))).withdraw("e-1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("queue withdraws no events"), "{error}");
    assert!(error.advice().unwrap().contains("memory"), "{:?}", error.advice());
}
