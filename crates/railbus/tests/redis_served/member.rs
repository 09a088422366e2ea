//! A group on a stream, as a backend's member sees it.
#![allow(dead_code)]

use railbus::{
    Event,
    backend::{Backend, Leased, Order, Receipt, Settle, Source, Start, Subscribe, Verdict},
    backends,
    delivery::{End, Try},
    options::Options,
    predicate::Interest,
};
use railbus_testbed::Redis;
use std::{sync::Arc, time::Duration};

pub(crate) async fn open(url: &str) -> Arc<dyn Backend> {
    backends::open(Options::parse(url).unwrap()).await.unwrap()
}

/// Adds settings to a URL.
pub(crate) fn with(url: &str, settings: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{settings}")
}

pub(crate) fn group(name: &str, lease: Duration) -> Subscribe {
    Subscribe {
        group: Some(name.into()),
        interest: Interest::all(),
        start: Start::Oldest,
        lease,
        order: Order::Any,
    }
}

pub(crate) async fn join(
    backend: &Arc<dyn Backend>,
    name: &str,
    lease: Duration,
) -> Arc<dyn Source> {
    backend.subscribe(group(name, lease)).await.unwrap()
}

pub(crate) async fn publish(backend: &Arc<dyn Backend>, from: u32, count: u32) {
    let events: Vec<_> = (from..from + count).map(|n| event(n).into()).collect();
    backend.publish(&events).await.into_iter().collect::<railbus::Result<()>>().unwrap();
}

pub(crate) fn event(n: u32) -> Event {
    Event::new("tick").topic("ticks").payload(n)
}

pub(crate) async fn fetch(source: &Arc<dyn Source>, max: usize) -> Vec<Leased> {
    tokio::time::timeout(Duration::from_secs(20), source.fetch(max)).await.expect("late").unwrap()
}

pub(crate) async fn take(source: &Arc<dyn Source>, count: usize) -> Vec<Leased> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(fetch(source, count - all.len()).await);
    }
    all
}

pub(crate) fn number(leased: &Leased) -> u32 {
    leased.event.as_ref().unwrap().payload::<u32>().unwrap()
}

pub(crate) async fn settle(source: &Arc<dyn Source>, leased: &Leased, verdict: Verdict) {
    let batch = [Settle::new(leased.receipt.clone(), verdict)];
    source.settle(&batch).await.pop().unwrap().unwrap();
}

pub(crate) async fn ack(source: &Arc<dyn Source>, all: &[Leased]) {
    for one in all {
        settle(source, one, Verdict::Ack).await;
    }
}

pub(crate) fn failed(attempt: u32, reason: &str) -> Try {
    Try {
        attempt,
        at: railbus::clock::Timestamp::now(),
        subscription: "s".into(),
        reason: reason.into(),
    }
}

/// Returns the settlement of an event that failed for the last time.
pub(crate) fn dead(receipt: Receipt) -> Settle {
    let mut dead = Settle::new(receipt, Verdict::Ack);
    dead.ended = vec![("s".into(), End::Dead("no".into()))];
    dead.failed = vec![failed(1, "no")];
    dead
}

pub(crate) async fn lag(backend: &Arc<dyn Backend>) -> u64 {
    backend.keeper().unwrap().groups().await.unwrap()[0].lag
}

/// Returns how often the server was asked for something.
pub(crate) fn asked(redis: &Redis, command: &str) -> u64 {
    let stats = redis.command(&["INFO", "commandstats"]).unwrap();
    let line = stats.lines().find_map(|line| {
        line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(":calls=")
    });
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}
