//! A backend that writes down what happens to another one.

use super::history::{Delivered, History, Published, What};
use crate::{
    accounts::Accounts,
    backend::{
        Backend, Capability, Journal, Keeper, Leased, Order, Outgoing, Receipt, Settle, Source,
        Subscribe, Verdict,
    },
    commons::Commons,
    error::Result,
    event::Event,
    predicate::Interest,
};
use async_trait::async_trait;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Gives every connection and every source a number of its own.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Returns a number that no other connection or source has.
pub(super) fn new_number() -> u64 {
    NUMBER.fetch_add(1, Relaxed)
}

/// A connection that records; all else is the other backend's.
#[derive(Debug)]
pub(super) struct Recorded {
    inner: Arc<dyn Backend>,
    history: History,
    number: u64,
    members: Mutex<Vec<(u64, Option<String>)>>,
}

impl Recorded {
    pub(super) fn new(inner: Arc<dyn Backend>, history: History) -> Self {
        Self { inner, history, number: new_number(), members: Mutex::default() }
    }

    fn came_to(&self, index: usize, event: &Event, result: &Result<()>) -> What {
        match result {
            Ok(()) => What::Published(Published {
                event: event.id().into(),
                key: event.key().map(Into::into),
                publisher: self.number,
                index,
                delayed: event.delay().is_some(),
            }),
            Err(_) => What::Doubtful { event: event.id().into() },
        }
    }
}

#[async_trait]
impl Backend for Recorded {
    fn capability(&self) -> &Capability {
        self.inner.capability()
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let begun = self.history.now();
        let results = self.inner.publish(batch).await;
        self.history.took(self.history.now().saturating_sub(begun));
        let each = batch.iter().enumerate().zip(&results);
        let published =
            each.map(|((index, outgoing), result)| self.came_to(index, &outgoing.event, result));
        self.history.note(begun, published);
        results
    }

    fn publish_now(&self, event: &Event) -> Option<Result<()>> {
        let begun = self.history.now();
        let result = self.inner.publish_now(event)?;
        self.history.note(begun, [self.came_to(0, event, &result)]);
        Some(result)
    }

    fn collects(&self) -> bool {
        self.inner.collects()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let (group, lease) = (request.group.clone(), request.lease);
        let by_key = request.order == Order::ByKey;
        let wants = request.interest.to_string().into();
        let inner = self.inner.subscribe(request).await?;
        let number = new_number();
        let member = (number, group.clone());
        self.members.lock().unwrap_or_else(PoisonError::into_inner).push(member);
        let history = self.history.clone();
        Ok(Arc::new(RecordedSource { inner, history, number, group, lease, by_key, wants }))
    }

    fn encodes(&self) -> bool {
        self.inner.encodes()
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        self.inner.settled(groups).await
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        let begun = self.history.now();
        let withdrawn = self.inner.withdraw(event_id).await?;
        if withdrawn {
            self.history.note(begun, [What::Withdrawn { event: event_id.into() }]);
        }
        Ok(withdrawn)
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let begun = self.history.now();
        let closed = self.inner.close(deadline).await;
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stopped = |(member, group)| What::Stopped { member, group };
        self.history.note(begun, members.into_iter().map(stopped));
        closed
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.inner.keeper()
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.inner.journal()
    }

    fn commons(&self) -> Option<Arc<dyn Commons>> {
        self.inner.commons()
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.inner.accounts()
    }
}

struct RecordedSource {
    inner: Arc<dyn Source>,
    history: History,
    number: u64,
    group: Option<String>,
    lease: Duration,
    by_key: bool,
    wants: Arc<str>,
}

impl RecordedSource {
    fn delivered(&self, leased: &Leased) -> What {
        let event = match &leased.event {
            Ok(event) => event.id().into(),
            Err(poison) => format!("bytes \"{}\"", poison.raw.escape_ascii()),
        };
        What::Delivered(Delivered {
            event,
            group: self.group.clone(),
            member: self.number,
            receipt: leased.receipt.clone(),
            attempt: leased.attempt,
            lease: self.lease,
            by_key: self.by_key,
            wants: Arc::clone(&self.wants),
        })
    }

    fn settled(&self, receipt: &Receipt, verdict: &Verdict) -> What {
        let (receipt, verdict) = (receipt.clone(), verdict.clone());
        What::Settled { member: self.number, receipt, verdict }
    }

    fn stopped(&self) -> What {
        What::Stopped { member: self.number, group: self.group.clone() }
    }
}

#[async_trait]
impl Source for RecordedSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let begun = self.history.now();
        let leased = self.inner.fetch(max).await?;
        if leased.is_empty() {
            self.history.note(begun, [What::Empty { member: self.number }]);
        } else {
            self.history.note(begun, leased.iter().map(|l| self.delivered(l)));
        }
        Ok(leased)
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let begun = self.history.now();
        let results = self.inner.settle(batch).await;
        self.history.took(self.history.now().saturating_sub(begun));
        let confirmed = batch.iter().zip(&results).filter(|(_, r)| r.is_ok());
        self.history.note(begun, confirmed.map(|(s, _)| self.settled(&s.receipt, &s.verdict)));
        results
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        self.inner.handed_out().await
    }

    async fn gap(&self) {
        self.inner.gap().await;
    }

    fn stop(&self) {
        let begun = self.history.now();
        self.inner.stop();
        self.history.note(begun, [self.stopped()]);
    }

    async fn close(&self) -> Result<()> {
        let begun = self.history.now();
        let closed = self.inner.close().await;
        self.history.note(begun, [self.stopped()]);
        closed
    }
}
