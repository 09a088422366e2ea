//! FIFO queues: the order of keys, whatever fails, and ids that are known for a while.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sqs_served/queues.rs"]
mod sqs_served;

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{Keyed, LetterFilter, Ordering},
    delivery::Delivery,
};
use sqs_served::Queue;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_stay_in_order_whatever_fails_between_two_members() {
    let queue = Queue::new("order.fifo");
    let publisher = Bus::open(&*queue.bus("")).await.unwrap();
    let c = publisher.capability();
    assert_eq!((c.ordering, c.keyed), (Ordering::PerKey, Keyed::Group));
    let handled = Arc::new(Mutex::new(HashMap::<String, Vec<u32>>::new()));
    let mut buses = Vec::new();
    for _ in 0..2 {
        let bus = Bus::open(&*queue.bus("")).await.unwrap();
        let handled = Arc::clone(&handled);
        bus.on("n")
            .group("g")
            .ordered_by_key()
            .retry(Retry::attempts(5).backoff_factor(Duration::from_millis(1)))
            .lease(Duration::from_secs(2))
            .run(move |delivery: Delivery| {
                let event = delivery.event();
                let n: u32 = event.payload().unwrap();
                // Each third fails once, in place or by way of the queue.
                if n % 3 == 1 && delivery.attempt() == 1 {
                    return Err("not at once");
                }
                let mut handled = handled.lock().unwrap();
                handled.entry(event.key().unwrap().to_owned()).or_default().push(n);
                Ok(())
            })
            .await
            .unwrap();
        buses.push(bus);
    }
    let events: Vec<_> =
        (0..40_u32).map(|n| Event::new("n").key(format!("k{}", n % 4)).payload(n).into()).collect();
    assert!(publisher.publish_all(&events).await.iter().all(Result::is_ok));
    for bus in &buses {
        tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    }
    let handled = handled.lock().unwrap().clone();
    for (key, numbers) in &handled {
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
        assert_eq!(numbers.len(), 10, "{key}: {numbers:?}");
    }
    assert_eq!(handled.len(), 4);
    for bus in buses {
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_held_back_holds_its_key_and_no_other() {
    let queue = Queue::new("held.fifo");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&handled);
    bus.on("n")
        .group("g")
        .lease(Duration::from_secs(2))
        .retry(Retry::attempts(3).backoff_factor(Duration::from_secs(2)))
        .run(move |delivery: Delivery| {
            let event = delivery.event();
            let n: u32 = event.payload().unwrap();
            if n == 0 && delivery.attempt() < 2 {
                return Err("later");
            }
            told.lock().unwrap().push(n);
            Ok(())
        })
        .await
        .unwrap();
    let key = |n: u32| if n == 2 { "b" } else { "a" };
    let events: Vec<_> =
        (0..4_u32).map(|n| Event::new("n").key(key(n)).payload(n).into()).collect();
    bus.publish_all(&events).await;
    let idle = tokio::time::timeout(WITHIN, bus.idle()).await;
    assert!(idle.is_ok(), "{:?} {:?}", handled.lock().unwrap(), queue.counts());
    assert_eq!(*handled.lock().unwrap(), [2, 0, 1, 3]);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_published_is_not_stored_again() {
    let queue = Queue::new("twice.fifo");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    for id in ["e-1", "e-1", "größe 🦀", "größe 🦀"] {
        bus.publish(Event::new("a").id(id).key("schlüssel 1").payload(1)).await.unwrap();
    }
    assert_eq!(queue.counts(), [2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_event_is_not_held_back() {
    let bus = Bus::open(&*Queue::new("delay.fifo").bus("")).await.unwrap();
    let event = Event::new("a").delay(Duration::from_secs(1)).payload(1);
    let error = bus.publish(event).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_lets_those_behind_it_go_on_and_keeps_its_line() {
    let (queue, dead) = Queue::with_dead("dead.fifo", 1000);
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&handled);
    bus.on("n")
        .group("g")
        .retry(Retry::attempts(1))
        .run(move |event: &Event| match event.payload::<u32>().unwrap() {
            1 => Err("no"),
            n => {
                told.lock().unwrap().push(n);
                Ok(())
            }
        })
        .await
        .unwrap();
    let events: Vec<_> = (0..4_u32).map(|n| Event::new("n").key("k").payload(n).into()).collect();
    bus.publish_all(&events).await;
    tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    assert_eq!(*handled.lock().unwrap(), [0, 2, 3]);
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    bus.close().await.unwrap();
    assert_eq!(dead.receive()[0]["Attributes"]["MessageGroupId"], "k");
}
