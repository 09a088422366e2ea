//! What the tests share: members, and what is said to the server past Railbus.

use railbus::{
    Event,
    backend::{Backend, Leased, Order, Settle, Source, Start, Subscribe, Verdict},
    backends,
    options::Options,
    predicate::Interest,
};
use std::{sync::Arc, time::Duration};

pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) async fn open(url: &str) -> Arc<dyn Backend> {
    backends::open(Options::parse(url).unwrap()).await.unwrap()
}

/// Returns a URL with a setting more.
pub(crate) fn with(url: &str, setting: &str) -> String {
    format!("{url}{}{setting}", if url.contains('?') { '&' } else { '?' })
}

pub(crate) fn request(group: &str, interest: Interest, lease: Duration) -> Subscribe {
    let (group, start, order) = (Some(group.into()), Start::Oldest, Order::Any);
    Subscribe { group, interest, start, lease, order }
}

pub(crate) async fn join(backend: &Arc<dyn Backend>, group: &str) -> Arc<dyn Source> {
    backend.subscribe(request(group, Interest::all(), LEASE)).await.unwrap()
}

pub(crate) fn event(n: u32) -> Event {
    Event::new("tick").topic("ticks").payload(n)
}

pub(crate) async fn publish(backend: &Arc<dyn Backend>, events: &[Event]) {
    let batch: Vec<_> = events.iter().cloned().map(Into::into).collect();
    backend.publish(&batch).await.into_iter().collect::<railbus::Result<()>>().unwrap();
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

/// Asks the server past Railbus.
pub(crate) async fn ask(url: &str, subject: &str, body: &str) -> serde_json::Value {
    let client = async_nats::connect(url).await.unwrap();
    let answer = client.request(subject.to_owned(), body.to_owned().into()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Returns how many messages a stream has.
pub(crate) async fn messages(url: &str, stream: &str) -> u64 {
    let info = ask(url, &format!("$JS.API.STREAM.INFO.{stream}"), "").await;
    info["state"]["messages"].as_u64().unwrap()
}
