//! Who waits for room in memory, who is told that there will be none, and what nobody's lock holds
//! up.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    ErrorKind, Event,
    backend::{Backend, LetterFilter, Settle, Source, Start, Subscribe, Verdict},
    backends::{self, memory::Memory},
    delivery::End,
    event_type,
    options::Options,
};
use serde::{Serialize, Serializer};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

const LONG: Duration = Duration::from_secs(60);

async fn join(backend: &dyn Backend, types: &str) -> Arc<dyn Source> {
    let (group, start) = (Some("g".into()), Start::Oldest);
    let interest = event_type(types).interest();
    backend
        .subscribe(Subscribe { group, interest, start, lease: LONG, order: Default::default() })
        .await
        .unwrap()
}

async fn publish(backend: &dyn Backend, event: Event) -> railbus::Result<()> {
    backend.publish(&[event.into()]).await.remove(0)
}

#[railbus::test]
async fn what_a_cancelled_subscription_left_behind_is_told_instead_of_waited_for() {
    let backend = backends::open(Options::parse("memory:?queue=10").unwrap()).await.unwrap();
    let (a, b) = (join(&*backend, "a").await, join(&*backend, "b").await);
    for _ in 0..10 {
        publish(&*backend, Event::new("b").payload(())).await.unwrap();
    }
    // Whoever wants `b` may still make room.
    let waits = Arc::clone(&backend);
    let waiting = tokio::spawn(async move { publish(&*waits, Event::new("a").payload(1)).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());

    b.close().await.unwrap();
    let told = waiting.await.unwrap().unwrap_err();
    let late = publish(&*backend, Event::new("a").payload(2)).await.unwrap_err();
    for error in [told, late] {
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert!(error.advice().unwrap().contains("nobody handles them"), "{error:?}");
    }

    // Back again, it makes room.
    let b = join(&*backend, "b").await;
    let one = b.fetch(1).await.unwrap().remove(0);
    b.settle(&[Settle::new(one.receipt, Verdict::Ack)]).await.remove(0).unwrap();
    publish(&*backend, Event::new("a").payload(3)).await.unwrap();
    assert_eq!(a.fetch(1).await.unwrap().remove(0).event.unwrap().payload::<i32>().unwrap(), 3);
}

#[railbus::test]
async fn who_waits_behind_those_for_a_full_group_goes_on_if_its_own_has_room() {
    let backend = backends::open(Options::parse("memory:?queue=1").unwrap()).await.unwrap();
    let mut sources = Vec::new();
    for types in ["a", "b"] {
        let interest = event_type(types).interest();
        let (group, start) = (Some(types.to_owned()), Start::Oldest);
        let request = Subscribe { group, interest, start, lease: LONG, order: Default::default() };
        sources.push(backend.subscribe(request).await.unwrap());
        publish(&*backend, Event::new(types).payload(0)).await.unwrap();
    }
    let mut waiting = Vec::new();
    for types in ["a", "a", "b"] {
        let waits = Arc::clone(&backend);
        let event = Event::new(types).payload(1);
        waiting.push(tokio::spawn(async move { publish(&*waits, event).await }));
        tokio::task::yield_now().await;
    }
    let taken = sources[1].fetch(1).await.unwrap().remove(0);
    sources[1].settle(&[Settle::new(taken.receipt, Verdict::Ack)]).await.remove(0).unwrap();
    waiting.remove(2).await.unwrap().unwrap();
    assert!(!waiting[0].is_finished() && !waiting[1].is_finished());
}

/// A payload that asks its memory when it is dropped.
struct Asks(Arc<Memory>, Arc<AtomicUsize>);

impl Serialize for Asks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        let groups = futures_util::FutureExt::now_or_never(self.0.keeper().unwrap().groups());
        groups.expect("memory answers at once").unwrap();
        self.1.fetch_add(1, SeqCst);
    }
}

#[railbus::test]
async fn a_payload_may_use_its_memory_while_it_is_dropped() {
    let (memory, dropped) = (Arc::new(Memory::default()), Arc::<AtomicUsize>::default());
    let event = || Event::new("a").payload(Asks(Arc::clone(&memory), Arc::clone(&dropped)));
    let source = join(&*memory, "a").await;
    let settle = async |ended: Vec<(Arc<str>, End)>| {
        publish(&*memory, event()).await.unwrap();
        let receipt = source.fetch(1).await.unwrap().remove(0).receipt;
        let settle = Settle { ended, ..Settle::new(receipt, Verdict::Ack) };
        source.settle(&[settle]).await.remove(0).unwrap();
    };
    settle(Vec::new()).await;
    assert_eq!(dropped.load(SeqCst), 1, "acked");

    settle(vec![("s".into(), End::Dead("no".into()))]).await;
    assert_eq!(dropped.load(SeqCst), 1, "kept as a letter");
    let keeper = memory.keeper().unwrap();
    let ids = |letters: Vec<_>| letters.into_iter().map(|l: railbus::backend::Letter| l.id);
    let all: Vec<_> = ids(keeper.letters(&LetterFilter::default()).await.unwrap()).collect();
    assert_eq!(keeper.purge(&all).await.unwrap(), 1);
    assert_eq!(dropped.load(SeqCst), 2, "purged");

    settle(vec![("s".into(), End::Dead("no".into()))]).await;
    publish(&*memory, event()).await.unwrap();
    keeper.prune("g").await.unwrap();
    assert_eq!(dropped.load(SeqCst), 4, "pruned: one letter, one in the queue");
}

#[railbus::test]
async fn a_lease_that_ran_out_tells_who_waits_for_its_room_in_vain() {
    let backend = backends::open(Options::parse("memory:?queue=1").unwrap()).await.unwrap();
    let join = async |types: &str| {
        let (group, start) = (Some("g".into()), Start::Oldest);
        let (interest, lease) = (event_type(types).interest(), Duration::from_millis(50));
        backend
            .subscribe(Subscribe { group, interest, start, lease, order: Default::default() })
            .await
            .unwrap()
    };
    let (a, b) = (join("a").await, join("b").await);
    publish(&*backend, Event::new("a").payload(0)).await.unwrap();
    assert_eq!(a.fetch(1).await.unwrap().len(), 1);
    // It holds the only place, and never settles.
    a.stop();
    let waits = Arc::clone(&backend);
    let waiting = tokio::spawn(async move { publish(&*waits, Event::new("b").payload(1)).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    let fetching = tokio::spawn(async move { b.fetch(1).await });
    let told = waiting.await.unwrap().unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Overloaded, "{told}");
    fetching.abort();
}
