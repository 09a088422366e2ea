//! Groups in memory: delivered, retried, dead-lettered, redriven, bounded, drained.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{Backend, GroupInfo, Letter, LetterFilter, Start},
    backends::{self, memory::Memory},
    delivery::{Delivery, Lease, Nack, Outcome, Then},
    options::Options,
    predicate::Interest,
    testing::Recorder,
};
use serde::Serialize;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, mpsc};

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_millis(1))
}

fn event(n: usize) -> Event {
    Event::new("a").id(n.to_string()).payload(n)
}

async fn memory(url: &str) -> Arc<dyn Backend> {
    backends::open(Options::parse(url).unwrap()).await.unwrap()
}

async fn settled(backend: &Arc<dyn Backend>) {
    let all = [("g".to_owned(), Interest::all())];
    let settled = backend.settled(&all);
    tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap().unwrap();
}

async fn letters(backend: &Arc<dyn Backend>) -> Vec<Letter> {
    backend.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap()
}

async fn group(backend: &Arc<dyn Backend>) -> GroupInfo {
    backend.keeper().unwrap().groups().await.unwrap().remove(0)
}

#[tokio::test]
async fn a_group_gets_each_event_once_in_order_and_settles_it() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (seen, mut all) = mpsc::unbounded_channel();
    let handler = move |n: railbus::Payload<usize>| seen.send(*n).unwrap();
    bus.on("a").group("g").limit(1).run(handler).await.unwrap();
    for n in 0..100 {
        assert_eq!(bus.publish(event(n)).await.unwrap().matched, 1);
    }
    for n in 0..100 {
        assert_eq!(next(&mut all).await, n);
    }
    settled(&backend).await;
    assert_eq!((group(&backend).await.name.as_str(), group(&backend).await.lag), ("g", 0));
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err(), "nothing comes twice");
}

#[tokio::test]
async fn a_group_begins_with_what_is_published_after_it_exists() {
    let bus = Bus::new();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("other").group("other").run(|_: &Event| {}).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    bus.on("a").group("g").run(move |e: &Event| seen.send(e.clone()).unwrap()).await.unwrap();
    bus.publish(event(2)).await.unwrap();
    assert_eq!(next(&mut all).await.id(), "2");
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn broadcasts_are_delivered_inside_publish_beside_groups() {
    let bus = Bus::new();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a").group("g").run(|_: &Event| {}).await.unwrap();
    bus.on("a").run(move |e: &Event| seen.send(e.clone()).unwrap()).await.unwrap();
    assert_eq!(bus.publish(event(1)).await.unwrap().matched, 2);
    assert_eq!(all.try_recv().unwrap().id(), "1");
    bus.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_then_becomes_a_dead_letter_with_its_history() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    // The second wait is longer than a third of the lease: the event goes back meanwhile.
    let retry = Retry::attempts(3).backoff_factor(Duration::from_secs(6));
    bus.on("a")
        .group("g")
        .named("charge")
        .retry(retry)
        .run(|d: Delivery| Err::<(), _>(format!("card declined, try {}", d.attempt())))
        .await
        .unwrap();
    bus.publish(event(1)).await.unwrap();
    settled(&backend).await;
    let [letter] = &letters(&backend).await[..] else { panic!("not one letter") };
    assert_eq!((letter.event_id.as_str(), letter.attempts), ("1", 3));
    assert_eq!((letter.group.as_deref(), letter.subscription.as_str()), (Some("g"), "charge"));
    assert_eq!(letter.reason, "card declined, try 3");
    let history: Vec<_> = letter.history.iter().map(|t| (t.attempt, t.reason.as_str())).collect();
    let tries = ["card declined, try 1", "card declined, try 2", "card declined, try 3"];
    assert_eq!(history, [(1, tries[0]), (2, tries[1]), (3, tries[2])]);
    assert_eq!(group(&backend).await.dead_letters, 1);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_redrive_goes_to_the_one_subscription_under_the_same_id_with_attempts_anew() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (seen, mut all) = mpsc::unbounded_channel();
    let healed = Arc::new(AtomicU32::new(0));
    let opening = |name: &'static str| {
        let (well, seen) = (Arc::clone(&healed), seen.clone());
        let on = bus.on("a").group("g").named(name).retry(quick(1));
        on.run(move |d: Delivery| {
            seen.send((name, d.event().id().to_owned(), d.attempt())).unwrap();
            if well.load(SeqCst) == 0 { Err("down") } else { Ok(()) }
        })
    };
    bus.open_all(vec![opening("one"), opening("two")]).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    settled(&backend).await;
    for name in ["one", "two"] {
        assert_eq!(next(&mut all).await, (name, "1".into(), 1));
    }
    healed.store(1, SeqCst);
    let keeper = backend.keeper().unwrap();
    let ids: Vec<_> = letters(&backend).await.into_iter().map(|letter| letter.id).collect();
    assert_eq!(keeper.redrive(&ids[1..]).await.unwrap(), 1);
    assert_eq!(keeper.redrive(&ids[1..]).await.unwrap(), 0, "there is nothing left to do");
    settled(&backend).await;
    assert_eq!(next(&mut all).await, ("two", "1".into(), 1));
    assert_eq!(keeper.purge(&ids).await.unwrap(), 1);
    assert!(letters(&backend).await.is_empty());
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn subscriptions_of_a_group_run_in_order_and_only_those_that_failed_run_again() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (seen, mut all) = mpsc::unbounded_channel();
    let (first, well, ill) = (seen.clone(), seen.clone(), seen);
    let on = |name| bus.on("a").group("g").named(name).retry(quick(3));
    let openings = vec![
        on("well").run(move |_: &Event| well.send(("well", 0)).unwrap()),
        on("ill").run(move |d: Delivery| {
            ill.send(("ill", d.attempt())).unwrap();
            // The first time back into the queue, the second time in place.
            match d.attempt() {
                1 => Outcome::Nacked(Nack { delay: Duration::from_secs(11), ..Nack::default() }),
                2 => Outcome::Failed("no".into()),
                _ => Outcome::Done,
            }
        }),
        on("first").priority(0).run(move |_: &Event| first.send(("first", 0)).unwrap()),
    ];
    bus.open_all(openings).await.unwrap();
    tokio::time::pause();
    bus.publish(event(1)).await.unwrap();
    settled(&backend).await;
    let mut calls = Vec::new();
    while let Ok(call) = all.try_recv() {
        calls.push(call);
    }
    assert_eq!(calls, [("first", 0), ("well", 0), ("ill", 1), ("ill", 2), ("ill", 3)]);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn cancelling_in_a_handler_leaves_what_was_fetched_to_the_others() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (begun, mut beginning) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    let handler = async move |e: Event| {
        begun.send(e.id().to_owned()).unwrap();
        drop(waits.acquire().await);
    };
    let subscription = bus.on("a").group("g").limit(2).run(handler).await.unwrap();
    for n in 1..=4 {
        bus.publish(event(n)).await.unwrap();
    }
    for n in ["1", "2"] {
        assert_eq!(next(&mut beginning).await, n, "a limit of 2");
    }
    assert!(beginning.try_recv().is_err(), "a limit of 2");
    subscription.cancel();
    gate.add_permits(9);
    let (seen, mut all) = mpsc::unbounded_channel();
    let handler = move |d: Delivery| seen.send((d.event().id().to_owned(), d.attempt())).unwrap();
    bus.on("a").group("g").run(handler).await.unwrap();
    for n in ["3", "4"] {
        assert_eq!(next(&mut all).await, (n.into(), 1));
    }
    settled(&backend).await;
    bus.close().await.unwrap();
    assert!(beginning.try_recv().is_err(), "it is not called any more");
}

#[tokio::test]
async fn a_handler_may_cancel_its_own_subscription() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (seen, mut all) = mpsc::unbounded_channel();
    let own: Arc<std::sync::OnceLock<railbus::Subscription>> = Arc::default();
    let held = Arc::clone(&own);
    let handler = move |e: &Event| {
        seen.send(e.id().to_owned()).unwrap();
        held.get().unwrap().cancel();
    };
    let subscription = bus.on("a").group("g").limit(1).run(handler).await.unwrap();
    own.set(subscription).unwrap();
    bus.publish_all(&[event(1).into(), event(2).into()]).await;
    assert_eq!(next(&mut all).await, "1");
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn a_dropped_lease_is_a_nack_and_an_explicit_ack_wins() {
    let bus = Bus::new();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .manual()
        .run(async move |d: Delivery, lease: Lease| {
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
    bus.publish(event(0)).await.unwrap();
    for attempt in 1..=3 {
        assert_eq!(next(&mut all).await, attempt);
    }
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn a_second_member_takes_over_while_the_first_one_drains_within_the_limit_of_both() {
    for limit in [1, 2] {
        widen(limit).await;
    }
}

async fn widen(limit: usize) {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let (seen, mut all) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (waits, says) = (Arc::clone(&gate), seen.clone());
    let slow = async move |e: Event| {
        says.send(("began", e.id().to_owned())).unwrap();
        drop(waits.acquire().await);
        says.send(("ended", e.id().to_owned())).unwrap();
    };
    bus.on("a").group("g").limit(limit).run(slow).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    assert_eq!(next(&mut all).await, ("began", "1".into()));
    // Widening the group replaces its member.
    let other = move |e: &Event| seen.send(("other", e.id().to_owned())).unwrap();
    bus.on("b").group("g").run(other).await.unwrap();
    bus.publish(Event::new("b").id("2").payload(())).await.unwrap();
    let other = ("other", "2".to_owned());
    if limit > 1 {
        assert_eq!(next(&mut all).await, other);
    }
    gate.add_permits(1);
    assert_eq!(next(&mut all).await, ("ended", "1".into()));
    if limit == 1 {
        assert_eq!(next(&mut all).await, other, "not before the one that holds the only place");
    }
    settled(&backend).await;
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
}

#[tokio::test]
async fn stop_ends_the_group_and_keeps_the_event() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    let failing = |_: &Event| Err::<(), _>("the database is gone");
    let on = || bus.on("a").group("g").retry(quick(1)).then(Then::Stop);
    let first = on().run(failing).await.unwrap();
    bus.publish(event(1)).await.unwrap();
    let error = bus.failed().await;
    assert!(error.to_string().contains("the database is gone"), "{error}");
    while group(&backend).await.leased > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(group(&backend).await.lag, 1);
    first.cancel();
    on().run(|_: &Event| {}).await.unwrap();
    settled(&backend).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_pruned_group_ends_its_members() {
    let backend = memory("memory:").await;
    let bus = Bus::over(Arc::clone(&backend));
    bus.on("a").group("g").run(|_: &Event| {}).await.unwrap();
    let keeper = bus.keeper().unwrap();
    assert_eq!(keeper.prune("h").await.unwrap_err().kind(), ErrorKind::NotFound);
    keeper.prune("g").await.unwrap();
    assert!(bus.failed().await.to_string().contains("was pruned"));
    assert!(keeper.groups().await.unwrap().is_empty());
    assert_eq!(keeper.replay("g", Start::Oldest).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[derive(Serialize)]
struct Counted(#[serde(skip)] Arc<()>);

#[tokio::test]
async fn dropping_the_bus_frees_what_is_queued() {
    let count = Arc::new(());
    let bus = Bus::new();
    let (seen, mut all) = mpsc::unbounded_channel();
    let held = async move |_: Event| {
        seen.send(()).unwrap();
        std::future::pending::<()>().await;
    };
    bus.on("a").group("g").limit(1).run(held).await.unwrap();
    for _ in 0..3 {
        bus.publish(Event::new("a").payload(Counted(Arc::clone(&count)))).await.unwrap();
    }
    next(&mut all).await;
    bus.close_within(Duration::ZERO).await.unwrap();
    drop(bus);
    // What was aborted lets go when its task is dropped.
    while Arc::strong_count(&count) > 1 {
        tokio::task::yield_now().await;
    }
}

#[railbus::test]
async fn a_bus_without_groups_publishes_to_those_of_others_on_its_memory() {
    let memory = Memory::default();
    let (one, two) = (Bus::over(Arc::new(memory.connect())), Bus::over(Arc::new(memory)));
    let seen = Recorder::new();
    let subscription = two.on("a").group("g").run(seen.clone()).await.unwrap();
    one.publish(Event::new("a").id("published")).await.unwrap();
    one.emit(Event::new("a").id("emitted")).unwrap();
    two.idle().await.unwrap();
    // Nobody is there any more: it is kept for who comes next.
    subscription.cancel();
    two.publish(Event::new("a").id("kept")).await.unwrap();
    let _again = two.on("a").group("g").run(seen.clone()).await.unwrap();
    two.idle().await.unwrap();
    let ids: Vec<_> = seen.events().iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids, ["published", "emitted", "kept"]);
}
