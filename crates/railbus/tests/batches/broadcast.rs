//! Batches of subscriptions without a group.

use super::stores::{Store, quick};
use railbus::{Batch, Bus, ErrorKind, Event, testing::Recorder};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

const LINGER: Duration = Duration::from_millis(40);
const NEVER: Duration = Duration::from_secs(3600);

#[railbus::test]
async fn publish_does_not_wait_for_the_batch_and_idle_does() {
    for store in Store::all() {
        let bus = store.bus().await;
        let sums: Arc<Mutex<Vec<Vec<u32>>>> = Arc::default();
        let all = Arc::clone(&sums);
        let on = bus.on("number").batch(8, LINGER);
        on.run(async move |batch: Batch<u32>| {
            all.lock().unwrap().push(batch.iter().map(|n| **n).collect());
        })
        .await
        .unwrap();
        for n in 0..10 {
            assert_eq!(bus.publish(Event::new("number").payload(n)).await.unwrap().matched, 1);
        }
        bus.idle().await.unwrap();
        let sums = sums.lock().unwrap();
        assert_eq!(sums.concat(), (0..10).collect::<Vec<_>>(), "{store}");
        assert_eq!(sums[0].len(), 8, "{store}");
        assert_eq!(bus.counters().broadcasts.succeeded.get(), 10, "{store}");
    }
}

#[railbus::test]
async fn an_item_that_fails_is_tried_again_then_told() {
    for store in Store::all() {
        let (bus, errors) = (store.bus().await, Recorder::new());
        let tries: Arc<Mutex<Vec<(u32, u32)>>> = Arc::default();
        let all = Arc::clone(&tries);
        let handler = async move |batch: Batch<u32>| {
            for number in batch {
                all.lock().unwrap().push((*number, number.attempt()));
                if *number == 1 {
                    number.fail("no one");
                }
            }
        };
        bus.on("handler.error").run(errors.clone()).await.unwrap();
        bus.on("number").retry(quick(2)).batch(3, LINGER).run(handler).await.unwrap();
        for n in 0..3 {
            bus.publish(Event::new("number").payload(n)).await.unwrap();
        }
        bus.idle().await.unwrap();
        assert_eq!(*tries.lock().unwrap(), [(0, 1), (1, 1), (2, 1), (1, 2)], "{store}");
        let told: Vec<_> =
            errors.events().iter().map(|e| e.get::<u32>("attempt").unwrap()).collect();
        assert_eq!(told, [1, 2], "{store}");
        let counted = &bus.counters().broadcasts;
        assert_eq!((counted.failed.get(), counted.retried.get()), (1, 1), "{store}");
        assert_eq!(counted.succeeded.get(), 2, "{store}");
    }
}

#[railbus::test]
async fn where_two_batches_are_not_through_publish_waits_and_inside_a_handler_is_told() {
    let bus = Bus::new();
    let gate = Arc::new(Semaphore::new(0));
    let (open, errors) = (Arc::clone(&gate), Recorder::new());
    let handler = async move |_: Batch<u32>| drop(open.acquire().await.unwrap());
    bus.on("number").batch(2, NEVER).run(handler).await.unwrap();
    bus.on("handler.error").run(errors.clone()).await.unwrap();
    let inside = async |bus: Bus| {
        let report = bus.publish(Event::new("number").payload(0)).await?;
        assert!(report.failures[0].error.contains("no room"), "{report:?}");
        railbus::done()
    };
    bus.on("inside").run(inside).await.unwrap();
    for n in 0..4 {
        bus.publish(Event::new("number").payload(n)).await.unwrap();
    }
    assert!(bus.publish(Event::new("inside")).await.unwrap().failures.is_empty());
    let waits = bus.publish(Event::new("number").payload(4));
    let mut waits = std::pin::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());
    gate.add_permits(9);
    waits.await.unwrap();
    bus.close().await.unwrap();
}

#[railbus::test]
async fn a_batch_that_is_gathered_is_handled_when_the_bus_closes() {
    for store in Store::all() {
        let (bus, seen) = (store.bus().await, Recorder::new());
        let record = seen.clone();
        let handler = async move |batch: Batch<Event>| {
            batch.iter().try_for_each(|e| railbus::SyncHandler::handle(&record, e))
        };
        bus.on("number").batch(50, NEVER).run(handler).await.unwrap();
        bus.publish(Event::new("number").payload(1)).await.unwrap();
        // A store hands it out a moment later.
        while bus.counters().delivered.get() == 0 {
            tokio::task::yield_now().await;
        }
        bus.close().await.unwrap();
        assert_eq!(seen.len(), 1, "{store}");
    }
}

#[railbus::test]
async fn emit_refuses_it_before_anything_ran() {
    let bus = Bus::new();
    bus.on("number").batch(2, NEVER).run(|_: Batch<u32>| {}).await.unwrap();
    let error = bus.emit(Event::new("number").payload(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
