//! What a member of a group owes to the others: what is cancelled, replayed, closed half way or
//! stopped loses nothing and comes back.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    backend::{LetterFilter, Settle, Start, Subscribe, Verdict},
    bus::Bus,
    delivery::{Delivery, Then},
    error::ErrorKind,
    event::Event,
    predicate::Interest,
    retry::Retry,
};
use serde_json::json;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("events.db").display())
}

async fn open(folder: &tempfile::TempDir) -> Bus {
    Bus::open(&url(folder)).await.unwrap()
}

#[tokio::test]
async fn what_waits_for_a_retry_of_a_cancelled_subscription_is_left_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    let (seen, mut all) = mpsc::unbounded_channel();
    let failing = seen.clone();
    let subscription = bus
        .on("a")
        .group("g")
        .retry(Retry::attempts(9).backoff_factor(Duration::from_millis(200)))
        .run(move |_: &Event| {
            failing.send("failed").unwrap();
            Err::<(), _>("not here")
        })
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    assert_eq!(next(&mut all).await, "failed");
    // From a thread that knows of no runtime.
    std::thread::spawn(move || subscription.cancel()).join().unwrap();
    bus.on("a").group("g").run(move |_: &Event| seen.send("handled").unwrap()).await.unwrap();
    assert_eq!(next(&mut all).await, "handled");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_predicate_that_panics_is_a_dead_letter_and_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    bus.on(|e: &Event| e.get::<i64>("n").expect("an n") > 3)
        .group("g")
        .named("strict")
        .retry(Retry::attempts(1))
        .run(|_: &Event| ())
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(json!({}))).await.unwrap();
    let letter = loop {
        match bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap().pop() {
            Some(letter) => break letter,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(letter.reason.contains("the predicate panicked: an n"), "{}", letter.reason);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_replay_opens_what_was_settled_skips_nothing_and_keeps_its_fences() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    let backend = railbus::options::Options::parse(&url(&folder)).unwrap();
    let backend = railbus::backends::open(backend).await.unwrap();
    for n in 0..4 {
        bus.publish(Event::new("a").payload(n)).await.unwrap();
    }
    let request = Subscribe {
        group: Some("g".into()),
        interest: Interest::all(),
        start: Start::Oldest,
        lease: Duration::from_secs(30),
        order: Default::default(),
    };
    let source = backend.subscribe(request).await.unwrap();
    let two = source.fetch(2).await.unwrap();
    let acks: Vec<_> = two.iter().map(|l| Settle::new(l.receipt.clone(), Verdict::Ack)).collect();
    source.settle(&acks).await.into_iter().for_each(Result::unwrap);
    // Later than all: nothing to see again, and nothing unseen is skipped.
    let keeper = bus.keeper().unwrap();
    assert_eq!(keeper.replay("g", Start::Newest).await.unwrap(), 0);
    assert_eq!(keeper.groups().await.unwrap()[0].lag, 2);
    assert_eq!(keeper.replay("g", Start::Oldest).await.unwrap(), 2);
    let again = source.fetch(10).await.unwrap();
    assert_eq!(again.len(), 4);
    assert!(again.iter().all(|leased| leased.attempt == 1));
    // A lease from before the replay settles nothing.
    for refused in source.settle(&acks).await {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Stale);
    }
    backend.close(Duration::from_secs(5)).await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_close_that_is_cut_short_waits_when_called_again() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    let (begun, mut beginning) = mpsc::unbounded_channel();
    let (go, gone) = watch::channel(false);
    bus.on("a")
        .group("g")
        .run(async move |_: Event| {
            begun.send(()).unwrap();
            gone.clone().wait_for(|go| *go).await.unwrap();
        })
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    next(&mut beginning).await;
    let cut = tokio::time::timeout(Duration::from_millis(50), bus.close()).await;
    assert!(cut.is_err(), "the handler still runs");
    let again = bus.clone();
    let closing = tokio::spawn(async move { again.close().await });
    go.send_replace(true);
    closing.await.unwrap().unwrap();
    assert_eq!(bus.counters().succeeded.get(), 1);
    let bus = open(&folder).await;
    assert_eq!(bus.keeper().unwrap().groups().await.unwrap()[0].lag, 0);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_group_that_a_policy_stopped_can_be_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    let stopping = bus
        .on("a")
        .group("g")
        .named("n")
        .retry(Retry::attempts(1))
        .then(Then::Stop)
        .run(|_: &Event| Err::<(), _>("no"))
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    bus.failed().await;
    stopping.cancel();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .named("n")
        .run(move |d: Delivery| seen.send(d.attempt()).unwrap())
        .await
        .unwrap();
    assert_eq!(next(&mut all).await, 2);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn two_subscriptions_of_one_name_in_a_group_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    bus.on("a").group("g").named("n").run(|_: &Event| ()).await.unwrap();
    let error = bus.on("b").group("g").named("n").run(|_: &Event| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.advice().unwrap().contains("name"), "{error}");
    bus.on("b").group("other").named("n").run(|_: &Event| ()).await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_bus_that_is_dropped_lets_go_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let bus = open(&folder).await;
    bus.on("a").group("g").run(|_: &Event| ()).await.unwrap();
    bus.on("a").run(|_: &Event| ()).await.unwrap();
    drop(bus);
    let log = folder.path().join("events.db-wal");
    let began = std::time::Instant::now();
    // The last connection to close takes the log away.
    while log.exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "something still holds the file");
        tokio::task::yield_now().await;
    }
}
