//! Leases: renewed while a handler works, and no use once they are over.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sqs_served/queues.rs"]
mod sqs_served;

use railbus::{
    Bus, ErrorKind, Event, Options, Retry,
    backend::{Backend, Order, Settle, Start, Subscribe, Verdict},
    backends,
    predicate::Interest,
};
use sqs_served::Queue;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

async fn open(queue: &Queue) -> Arc<dyn Backend> {
    backends::open(Options::parse(&queue.bus("")).unwrap()).await.unwrap()
}

fn request(lease: Duration) -> Subscribe {
    let (group, interest) = (Some("g".into()), Interest::all());
    Subscribe { group, interest, start: Start::Oldest, lease, order: Order::Any }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_longer_than_its_lease_keeps_its_event() {
    let queue = Queue::new("renewed");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    bus.on("a")
        .group("g")
        .lease(Duration::from_secs(1))
        .retry(Retry::attempts(1))
        .run(async move |_: Event| {
            called.fetch_add(1, SeqCst);
            // sleep: three leases
            tokio::time::sleep(Duration::from_secs(3)).await;
        })
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), bus.idle()).await.unwrap().unwrap();
    assert_eq!(calls.load(SeqCst), 1);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stale_member_settles_stays_who_has_it() {
    let queue = Queue::new("stale");
    let (one, other) = (open(&queue).await, open(&queue).await);
    one.publish(&[Event::new("a").id("e-1").payload(1).into()]).await.remove(0).unwrap();
    let slow = one.subscribe(request(Duration::from_secs(1))).await.unwrap();
    let held = slow.fetch(1).await.unwrap().remove(0);
    assert_eq!(held.attempt, 1);
    let quick = other.subscribe(request(Duration::from_secs(30))).await.unwrap();
    let again = quick.fetch(1).await.unwrap().remove(0);
    assert_eq!((again.attempt, again.lost), (2, true));
    for verdict in
        [Verdict::Ack, Verdict::Extend { tries: 0 }, Verdict::Release { delay: Duration::ZERO }]
    {
        let settled = slow.settle(&[Settle::new(held.receipt.clone(), verdict)]).await.remove(0);
        assert_eq!(settled.unwrap_err().kind(), ErrorKind::Stale);
    }
    assert_eq!(queue.counts(), [0, 1, 0], "the other one has it still");
    quick.settle(&[Settle::new(again.receipt, Verdict::Ack)]).await.remove(0).unwrap();
    assert_eq!(queue.counts(), [0, 0, 0]);
    one.close(Duration::from_secs(5)).await.unwrap();
    other.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_between_tries_are_whole_seconds_and_never_shorter() {
    let queue = Queue::new("waits");
    let backend = open(&queue).await;
    backend.publish(&[Event::new("a").payload(1).into()]).await.remove(0).unwrap();
    let source = backend.subscribe(request(Duration::from_secs(30))).await.unwrap();
    let held = source.fetch(1).await.unwrap().remove(0);
    let began = std::time::Instant::now();
    let nack = Verdict::Nack { delay: Duration::from_millis(200) };
    source.settle(&[Settle::new(held.receipt, nack)]).await.remove(0).unwrap();
    let again = source.fetch(1).await.unwrap().remove(0);
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    let delay = Duration::from_secs(12 * 60 * 60);
    let nack = Settle::new(again.receipt, Verdict::Nack { delay });
    source.settle(&[nack]).await.remove(0).unwrap();
    assert_eq!(queue.counts(), [0, 1, 0], "as long as may be");
    backend.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visibility_timeout_is_the_shortest_lease() {
    let queue = Queue::new("visibility");
    let url = queue.bus("&visibility_timeout=300");
    let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
    backend.publish(&[Event::new("a").payload(1).into()]).await.remove(0).unwrap();
    let source = backend.subscribe(request(Duration::from_secs(1))).await.unwrap();
    let held = source.fetch(1).await.unwrap().remove(0);
    // sleep: longer than the lease that was asked for
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(queue.counts(), [0, 1, 0]);
    source.settle(&[Settle::new(held.receipt, Verdict::Ack)]).await.remove(0).unwrap();
    backend.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_while_a_request_waits_loses_nothing() {
    let queue = Queue::new("closing");
    let (one, other) = (open(&queue).await, open(&queue).await);
    let source = one.subscribe(request(Duration::from_secs(30))).await.unwrap();
    let fetching = {
        let source = Arc::clone(&source);
        tokio::spawn(async move { source.fetch(10).await })
    };
    // sleep: the request is on its way by then
    tokio::time::sleep(Duration::from_millis(300)).await;
    source.stop();
    assert!(fetching.await.unwrap().unwrap().is_empty());
    other.publish(&[Event::new("a").payload(1).into()]).await.remove(0).unwrap();
    source.close().await.unwrap();
    let next = other.subscribe(request(Duration::from_secs(30))).await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(10), next.fetch(1)).await.unwrap().unwrap();
    assert_eq!(came.len(), 1);
    next.settle(&[Settle::new(came[0].receipt.clone(), Verdict::Ack)]).await.remove(0).unwrap();
    one.close(Duration::from_secs(5)).await.unwrap();
    other.close(Duration::from_secs(5)).await.unwrap();
}
