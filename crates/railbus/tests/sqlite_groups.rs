//! Groups on the embedded store: delivered, retried, dead-lettered, redriven, shared, drained.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    backend::{LetterFilter, Start, Subscribe},
    bus::Bus,
    delivery::{Lease, Nack, Outcome, Then},
    event::Event,
    handler::Payload,
    predicate::{Interest, topic},
    retry::Retry,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("events.db").display())
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_millis(1))
}

#[tokio::test]
async fn a_group_gets_each_event_once_and_settles_it() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    for n in 0..100 {
        bus.publish(Event::new("order.placed").payload(json!({ "n": n }))).await.unwrap();
    }
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("order.*")
        .group("billing")
        .named("charge")
        .run(async move |event: Event| {
            seen.send(event.get::<i64>("n").unwrap()).unwrap();
        })
        .await
        .unwrap();
    let mut got = Vec::new();
    for _ in 0..100 {
        got.push(next(&mut all).await);
    }
    bus.close().await.unwrap();
    got.sort_unstable();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
    assert!(all.try_recv().is_err(), "nothing comes twice");
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let groups = bus.keeper().unwrap().groups().await.unwrap();
    assert_eq!((groups[0].name.as_str(), groups[0].lag), ("billing", 0));
}

#[tokio::test]
async fn a_failure_is_retried_then_becomes_a_dead_letter_with_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    bus.on("order.placed")
        .group("billing")
        .named("charge")
        .retry(quick(3))
        .run(move |_: &Event| {
            let n = counted.fetch_add(1, SeqCst) + 1;
            Err::<(), _>(format!("card declined, try {n}"))
        })
        .await
        .unwrap();
    bus.publish(Event::new("order.placed").id("order-1").payload(1)).await.unwrap();
    let keeper = bus.keeper().unwrap();
    let letters = loop {
        let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
        if !letters.is_empty() {
            break letters;
        }
        tokio::task::yield_now().await;
    };
    let letter = &letters[0];
    assert_eq!(calls.load(SeqCst), 3);
    assert_eq!((letter.event_id.as_str(), letter.attempts), ("order-1", 3));
    assert_eq!(
        (letter.group.as_deref(), letter.subscription.as_str()),
        (Some("billing"), "charge")
    );
    assert_eq!(letter.reason, "card declined, try 3");
    let history: Vec<_> = letter.history.iter().map(|t| (t.attempt, t.reason.as_str())).collect();
    let tries = ["card declined, try 1", "card declined, try 2", "card declined, try 3"];
    assert_eq!(history, [(1, tries[0]), (2, tries[1]), (3, tries[2])]);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_redrive_keeps_the_id_counts_anew_and_is_idempotent() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let (seen, mut all) = mpsc::unbounded_channel();
    let healed = Arc::new(AtomicU32::new(0));
    let well = Arc::clone(&healed);
    bus.on("order.placed")
        .group("billing")
        .named("charge")
        .retry(quick(1))
        .run(async move |d: railbus::delivery::Delivery| {
            seen.send((d.event().id().to_owned(), d.attempt())).unwrap();
            if well.load(SeqCst) == 0 { Err("down") } else { Ok(()) }
        })
        .await
        .unwrap();
    bus.publish(Event::new("order.placed").id("order-1").payload(1)).await.unwrap();
    assert_eq!(next(&mut all).await, ("order-1".into(), 1));
    let keeper = bus.keeper().unwrap();
    let id = loop {
        match keeper.letters(&LetterFilter::default()).await.unwrap().first() {
            Some(letter) => break letter.id.clone(),
            None => tokio::task::yield_now().await,
        }
    };
    healed.store(1, SeqCst);
    assert_eq!(keeper.redrive(std::slice::from_ref(&id)).await.unwrap(), 1);
    assert_eq!(keeper.redrive(std::slice::from_ref(&id)).await.unwrap(), 0);
    assert_eq!(next(&mut all).await, ("order-1".into(), 1));
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn each_subscription_of_a_group_ends_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let (seen, mut all) = mpsc::unbounded_channel();
    let (well, ill) = (seen.clone(), seen);
    let openings = vec![
        bus.on("a").group("g").named("well").run(move |_: &Event| well.send("well").unwrap()),
        bus.on("a").group("g").named("ill").retry(quick(3)).run(move |_: &Event| {
            ill.send("ill").unwrap();
            Err::<(), _>("no")
        }),
    ];
    bus.open_all(openings).await.unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(next(&mut all).await);
    }
    assert_eq!(calls, ["well", "ill", "ill", "ill"]);
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn a_dropped_lease_is_a_nack_and_an_explicit_ack_wins() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .manual()
        .run(async move |d: railbus::delivery::Delivery, lease: Lease| {
            seen.send(d.attempt()).unwrap();
            match d.attempt() {
                1 => drop(lease),
                2 => {
                    let (delay, reason) = (Duration::from_millis(5), "later".into());
                    drop(lease.nack(Nack { delay, reason }));
                }
                _ => drop(lease.ack()),
            }
            if d.attempt() == 3 { Err("an explicit ack wins over this") } else { Ok(()) }
        })
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    for attempt in 1..=3 {
        assert_eq!(next(&mut all).await, attempt);
    }
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn a_stale_receipt_is_refused_and_a_new_one_counts_on() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let backend = railbus::backends::open(railbus::options::Options::parse(&url(&folder)).unwrap());
    let backend = backend.await.unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    let request = Subscribe {
        group: Some("g".into()),
        interest: Interest::all(),
        start: Start::Oldest,
        lease: Duration::from_millis(100),
        order: Default::default(),
    };
    let source = backend.subscribe(request).await.unwrap();
    let first = source.fetch(10).await.unwrap().remove(0);
    let second = source.fetch(10).await.unwrap().remove(0);
    assert_eq!((first.attempt, second.attempt), (1, 2));
    use railbus::backend::{Settle, Verdict};
    let refused = source.settle(&[Settle::new(first.receipt, Verdict::Ack)]).await.remove(0);
    assert_eq!(refused.unwrap_err().kind(), railbus::error::ErrorKind::Stale);
    source.settle(&[Settle::new(second.receipt, Verdict::Ack)]).await.remove(0).unwrap();
    backend.close(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn broadcasts_reach_every_bus_on_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) =
        (Bus::open(&url(&folder)).await.unwrap(), Bus::open(&url(&folder)).await.unwrap());
    let (seen, mut all) = mpsc::unbounded_channel();
    for (name, bus) in [("one", &one), ("two", &two)] {
        let seen = seen.clone();
        bus.on(topic("registry:*"))
            .run(move |e: &Event| seen.send((name, e.get::<i64>("n").unwrap())).unwrap())
            .await
            .unwrap();
    }
    one.publish(Event::new("changed").topic("registry:bots").payload(json!({ "n": 7 })))
        .await
        .unwrap();
    two.publish(Event::new("changed").topic("other").payload(json!({ "n": 8 }))).await.unwrap();
    let mut got = vec![next(&mut all).await, next(&mut all).await];
    got.sort_unstable();
    assert_eq!(got, [("one", 7), ("two", 7)]);
    one.close().await.unwrap();
    two.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn a_payload_of_the_wrong_type_names_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    bus.on("a")
        .group("g")
        .named("typed")
        .retry(quick(1))
        .run(async |_: Payload<Vec<u8>>| Outcome::Done)
        .await
        .unwrap();
    bus.publish(Event::new("a").id("wrong").payload("text")).await.unwrap();
    let keeper = bus.keeper().unwrap();
    let letter = loop {
        match keeper.letters(&LetterFilter::default()).await.unwrap().pop() {
            Some(letter) => break letter,
            None => tokio::task::yield_now().await,
        }
    };
    assert!(letter.reason.contains("event: wrong"), "{}", letter.reason);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn stop_ends_the_group_and_keeps_the_event() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    bus.on("a")
        .group("g")
        .retry(quick(1))
        .then(Then::Stop)
        .run(|_: &Event| Err::<(), _>("the database is gone"))
        .await
        .unwrap();
    bus.publish(Event::new("a").payload(0)).await.unwrap();
    let error = bus.failed().await;
    assert!(error.to_string().contains("the database is gone"), "{error}");
    assert_eq!(bus.keeper().unwrap().groups().await.unwrap()[0].lag, 1);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_was_fetched_for_a_cancelled_subscription_is_left_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    let (begun, mut beginning) = mpsc::unbounded_channel();
    let (go, gone) = tokio::sync::watch::channel(false);
    let subscription = bus
        .on("a")
        .group("g")
        .limit(2)
        .run(async move |e: Event| {
            begun.send(e.id().to_owned()).unwrap();
            gone.clone().wait_for(|go| *go).await.unwrap();
        })
        .await
        .unwrap();
    for id in ["1", "2", "3", "4"] {
        bus.publish(Event::new("a").id(id).payload(0)).await.unwrap();
    }
    for id in ["1", "2"] {
        assert_eq!(next(&mut beginning).await, id);
    }
    subscription.cancel();
    go.send_replace(true);
    bus.close().await.unwrap();
    assert!(beginning.try_recv().is_err(), "it is not called any more");

    let bus = Bus::open(&url(&folder)).await.unwrap();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .run(move |d: railbus::delivery::Delivery| {
            seen.send((d.event().id().to_owned(), d.attempt())).unwrap();
        })
        .await
        .unwrap();
    let mut rest = vec![next(&mut all).await, next(&mut all).await];
    rest.sort();
    assert_eq!(rest, [("3".into(), 1), ("4".into(), 1)]);
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn a_handler_may_close_its_own_bus() {
    let folder = tempfile::tempdir().unwrap();
    for url in [url(&folder), "memory:".into()] {
        let bus = Bus::open(&url).await.unwrap();
        let inner = bus.clone();
        let (seen, mut all) = mpsc::unbounded_channel();
        let on = bus.on("a").group("g");
        on.run(async move |_: Event| {
            inner.close().await.unwrap();
            seen.send(()).unwrap();
        })
        .await
        .unwrap();
        bus.publish(Event::new("a").payload(0)).await.unwrap();
        next(&mut all).await;
        bus.close().await.unwrap();
        assert!(bus.publish(Event::new("a").payload(0)).await.is_err());
    }
}

#[tokio::test]
async fn an_event_whose_member_dies_each_time_is_a_dead_letter_of_its_tries() {
    let folder = tempfile::tempdir().unwrap();
    let options = railbus::options::Options::parse(&url(&folder)).unwrap();
    let backend = railbus::backends::open(options).await.unwrap();
    let bus = Bus::open(&url(&folder)).await.unwrap();
    bus.publish(Event::new("a").id("killer").payload(0)).await.unwrap();
    let request = Subscribe {
        group: Some("g".into()),
        interest: Interest::all(),
        start: Start::Oldest,
        lease: Duration::from_millis(100),
        order: Default::default(),
    };
    // A member that takes it twice and says nothing, as if it had died.
    let source = backend.subscribe(request).await.unwrap();
    for attempt in 1..=2 {
        assert_eq!(source.fetch(1).await.unwrap()[0].attempt, attempt);
    }
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    bus.on("a")
        .group("g")
        .named("n")
        .retry(quick(2))
        .run(move |_: &Event| {
            counted.fetch_add(1, SeqCst);
        })
        .await
        .unwrap();
    let letter = loop {
        match bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap().pop() {
            Some(letter) => break letter,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((letter.attempts, calls.load(SeqCst)), (2, 0));
    assert!(letter.reason.contains("delivered 2 times"), "{}", letter.reason);
    let history: Vec<_> = letter.history.iter().map(|t| t.attempt).collect();
    assert_eq!(history, [1, 2]);
    assert!(letter.history[0].reason.contains("lease ran out"));
    bus.close().await.unwrap();
    backend.close(Duration::from_secs(5)).await.unwrap();
}
