//! One delivery from lease to settlement.

use super::{
    call::run_entry,
    entry::{Entry, Fallback, Matching},
    leases::Leases,
    settler::Settler,
};
use crate::{
    backend::{Leased, Receipt, Settle, Source, Undecodable, Verdict},
    clock::Timestamp,
    delivery::{ByHand, Decision, Delivery, End, Lease, Marks, Nack, Outcome, Try},
    error::ErrorKind,
    event::Event,
    instrument::Counters,
};
use std::{
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// How long an event that this member can't handle any more is left to the others.
const UNROUTED: Duration = Duration::from_millis(200);

/// What every delivery of a group shares.
pub(super) struct Shared {
    pub(super) group: Arc<str>,
    pub(super) matching: Matching,
    pub(super) policy: Fallback,
    pub(super) source: Arc<dyn Source>,
    pub(super) settler: Settler,
    pub(super) leases: Leases,
    pub(super) lease: Duration,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) counters: Arc<Counters>,
}

/// What the group does after a delivery.
#[derive(Debug, PartialEq)]
pub(super) enum After {
    GoOn,
    /// A policy said stop, for this reason.
    Stop(String),
}

/// A delivery under way: what is still to run, and what is known but not yet settled.
struct Work<'a> {
    shared: &'a Shared,
    event: Event,
    receipt: Receipt,
    attempt: u32,
    // Whether the lease before this one ran out unsettled.
    lost: bool,
    open: Vec<Arc<Entry>>,
    // Whether a subscription was cancelled before it was through: the others' to handle.
    skipped: bool,
    ended: Vec<(String, End)>,
    failed: Vec<Try>,
    marks: Arc<Marks>,
}

/// Runs a leased event through the group's subscriptions and settles it.
pub(super) async fn work(shared: &Shared, leased: Leased) -> After {
    let receipt = leased.receipt.clone();
    shared.counters.delivered.one();
    match leased.event {
        Ok(event) => {
            let Some(mut open) = (shared.matching)(&event) else {
                give_back(shared, receipt).await;
                return After::GoOn;
            };
            open.retain(|entry| match &leased.only {
                Some(only) => entry.name == *only,
                None => !leased.finished.contains(&entry.name),
            });
            if leased.only.is_some() && open.is_empty() {
                give_back(shared, receipt).await;
                return After::GoOn;
            }
            let work = Work {
                shared,
                event,
                receipt: receipt.clone(),
                attempt: leased.attempt,
                lost: leased.lost,
                open,
                skipped: false,
                ended: Vec::new(),
                failed: Vec::new(),
                marks: Arc::default(),
            };
            work.run().await
        }
        Err(undecodable) => poison(shared, &receipt, leased.attempt, &undecodable).await,
    }
}

/// Gives back an event whose subscription was cancelled after it was fetched.
async fn give_back(shared: &Shared, receipt: Receipt) {
    shared.leases.end(&receipt);
    let settle = Settle::new(receipt, Verdict::Release { delay: UNROUTED });
    tell(shared, None, shared.settler.settle(settle).await);
}

/// Settles bytes that are no event: no try will ever make one of them.
async fn poison(
    shared: &Shared,
    receipt: &Receipt,
    attempt: u32,
    undecodable: &Undecodable,
) -> After {
    let (name, policy) = (shared.policy)();
    let reason = undecodable.error.to_string();
    tracing::error!(group = &*shared.group, %reason, "what was stored is not an event");
    let failed =
        Try { attempt, at: Timestamp::now(), subscription: name.clone(), reason: reason.clone() };
    match policy.last(reason) {
        Decision::Stop(reason) => {
            shared.source.stop();
            After::Stop(reason)
        }
        Decision::End(end) => {
            match &end {
                End::Dead(_) => shared.counters.dead_lettered.one(),
                _ => shared.counters.failed.one(),
            }
            let ended = vec![(name, end)];
            let mut settle = Settle::new(receipt.clone(), Verdict::Ack);
            (settle.ended, settle.failed) = (ended, vec![failed]);
            tell(shared, None, shared.settler.settle(settle).await);
            After::GoOn
        }
        Decision::Again(..) => After::GoOn,
    }
}

impl Work<'_> {
    async fn run(mut self) -> After {
        if self.open.is_empty() {
            self.shared.counters.unmatched.one();
            self.ended.push((String::new(), End::Unmatched));
        }
        loop {
            let wait = match self.round().await {
                Round::Through => {
                    let verdict = match self.skipped {
                        true => Verdict::Release { delay: UNROUTED },
                        false => Verdict::Ack,
                    };
                    self.settle(verdict).await;
                    return After::GoOn;
                }
                Round::Again(wait) => wait,
                Round::Stop(reason) => {
                    // First, or the fetch under way takes the event up again.
                    self.shared.source.stop();
                    self.settle(Verdict::Nack { delay: Duration::ZERO }).await;
                    return After::Stop(reason);
                }
            };
            if wait >= self.shared.lease / 3 || !self.wait_here(wait).await {
                self.settle(Verdict::Nack { delay: wait }).await;
                return After::GoOn;
            }
            self.attempt = self.attempt.saturating_add(1);
            self.lost = false;
            // Counted before it starts, as a delivery is: a crash in it is a try.
            if !self.settle(Verdict::Extend { tries: 1 }).await {
                return After::GoOn;
            }
        }
    }

    /// Waits with the lease kept; false if the group drains meanwhile.
    async fn wait_here(&self, wait: Duration) -> bool {
        let mut draining = self.shared.draining.clone();
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            _ = draining.wait_for(|draining| *draining) => false,
        }
    }

    /// Runs each subscription that is not through yet, once, in order.
    async fn round(&mut self) -> Round {
        let mut again: Option<Duration> = None;
        for entry in std::mem::take(&mut self.open) {
            if entry.is_cancelled() {
                self.skipped = true;
                continue;
            }
            if self.lost && entry.policy.is_exhausted(self.attempt) {
                self.exhausted(&entry);
                continue;
            }
            let outcome = self.call(&entry).await;
            let decision = entry.policy.decide(outcome, self.attempt);
            match decision {
                Decision::End(end) => self.end(&entry, end),
                Decision::Again(wait, reason) => {
                    self.shared.counters.retried.one();
                    self.note(&entry, &reason, &format!("again in {wait:?}"));
                    // The longest, since each is the least its subscription wants to wait.
                    again = Some(again.map_or(wait, |other| other.max(wait)));
                    self.open.push(entry);
                }
                Decision::Stop(reason) => {
                    self.note(&entry, &reason, "the group stops");
                    return Round::Stop(reason);
                }
            }
        }
        again.map_or(Round::Through, Round::Again)
    }

    /// Gives up an event whose tries were used up without any of them being settled. This
    /// delivery is no try: the history ends with the last lease that ran out.
    fn exhausted(&mut self, entry: &Entry) {
        let tries = self.attempt - 1;
        let reason =
            format!("delivered {tries} times, never settled: the process died or hung each time");
        tracing::warn!(event = self.event.id(), subscription = entry.name, reason, "given up");
        if let Decision::End(end) = entry.policy.last(reason) {
            self.count(&end);
            self.ended.push((entry.name.clone(), end));
        }
    }

    fn end(&mut self, entry: &Entry, end: End) {
        self.count(&end);
        match &end {
            End::Failed(reason) => self.note(entry, reason, "let go"),
            End::Dead(reason) => self.note(entry, reason, "dead letter"),
            End::Done | End::Unmatched => {}
        }
        self.ended.push((entry.name.clone(), end));
    }

    fn count(&self, end: &End) {
        let counters = &self.shared.counters;
        match end {
            End::Done => counters.succeeded.one(),
            End::Unmatched => counters.unmatched.one(),
            End::Failed(_) => counters.failed.one(),
            End::Dead(_) => counters.dead_lettered.one(),
        }
    }

    fn note(&mut self, entry: &Entry, reason: &str, next: &str) {
        tracing::warn!(
            event = self.event.id(),
            r#type = self.event.event_type(),
            subscription = entry.name,
            attempt = self.attempt,
            reason,
            next,
            "a handler failed"
        );
        self.failed.push(Try {
            attempt: self.attempt,
            at: Timestamp::now(),
            subscription: entry.name.clone(),
            reason: reason.into(),
        });
    }

    async fn call(&self, entry: &Entry) -> Outcome {
        let settled = entry.manual.then(|| {
            let (lease, settled) = Lease::new();
            *self.marks.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
            settled
        });
        let delivery = Delivery {
            event: self.event.clone(),
            attempt: self.attempt,
            group: Some(Arc::clone(&self.shared.group)),
            marks: Arc::clone(&self.marks),
        };
        let outcome = run_entry(entry, &delivery).await;
        let Some(settled) = settled else { return outcome };
        // A lease that the handler did not take must not be waited for.
        drop(delivery.take_lease());
        by_hand(settled, outcome).await
    }

    /// Settles what is known so far; false if the lease was lost.
    async fn settle(&mut self, verdict: Verdict) -> bool {
        let settle = Settle {
            receipt: self.receipt.clone(),
            verdict,
            ended: std::mem::take(&mut self.ended),
            failed: std::mem::take(&mut self.failed),
            retried: self.marks.retried.load(Relaxed),
        };
        let ends = !matches!(settle.verdict, Verdict::Extend { .. });
        if ends {
            // No renewal may overtake the end.
            self.shared.leases.end(&self.receipt);
        }
        tell(self.shared, Some(&self.event), self.shared.settler.settle(settle).await)
    }
}

enum Round {
    Through,
    Again(Duration),
    Stop(String),
}

/// Waits until the lease was settled by hand; what was decided so wins over the outcome.
async fn by_hand(settled: oneshot::Receiver<ByHand>, outcome: Outcome) -> Outcome {
    match (settled.await, outcome) {
        (Ok(ByHand::Ack), _) => Outcome::Done,
        (Ok(ByHand::Nack(nack)), _) => Outcome::Nacked(nack),
        (Err(_), Outcome::Done) => {
            Outcome::Nacked(Nack { delay: Duration::ZERO, reason: "unsettled".into() })
        }
        (Err(_), outcome) => outcome,
    }
}

fn tell(shared: &Shared, event: Option<&Event>, result: crate::error::Result<()>) -> bool {
    let Err(error) = result else { return true };
    let event = event.map_or("", Event::id);
    if error.kind() == ErrorKind::Stale {
        tracing::warn!(event, group = &*shared.group, "the lease ran out: the event comes again");
    } else {
        tracing::error!(event, group = &*shared.group, %error, "not settled: the event comes again");
    }
    false
}
