//! One delivery from lease to settlement.

use super::{
    able::Leaving,
    call::run_entry,
    entry::Entry,
    hand::Hand,
    leases::Held,
    leaving::{leave_to_others, release, tell, wait_here},
    shared::Shared,
};
use crate::{
    backend::{Leased, Receipt, Settle, Undecodable, Verdict},
    clock::Timestamp,
    context,
    delivery::{Decision, Delivery, End, Marks, Outcome, Told, Try},
    error::{Error, ErrorKind, Result},
    event::Event,
};
use smallvec::SmallVec;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How a delivery begins.
pub(super) enum Begun {
    /// With subscriptions to run.
    Run(Work),
    /// It is settled without running anything.
    Settled(Settle),
    /// It is given back after this wait, in which it is kept.
    Unrouted(Settle, Duration),
    /// It stays unsettled: a policy said stop, for this reason.
    Stop(String),
}

/// A delivery under way: what is still to run, and what is known but not yet settled.
pub(super) struct Work {
    delivery: Delivery,
    receipt: Receipt,
    // Whether the lease before this one ran out unsettled.
    lost: bool,
    open: Entries,
    // Whether a subscription was cancelled before it was through: the others' to handle.
    skipped: bool,
    // Whether nothing was settled of it before.
    fresh: bool,
    done: Entries,
    ended: Vec<(Arc<str>, End)>,
    failed: Vec<Try>,
    // Handlers that settled by hand and wait for what the store says.
    told: Vec<Told>,
    // When others may have it, where its lease can't be kept.
    until: Option<Instant>,
}

/// Subscriptions; mostly there is one.
type Entries = SmallVec<[Arc<Entry>; 2]>;

/// What one call of each open subscription came to.
pub(super) enum Round {
    Through,
    Again(Duration),
    Stop(String),
}

/// Begins the delivery of a leased event, which others may have from `until` on, if at all.
pub(super) fn begin(shared: &Shared, leased: Leased, until: Option<Instant>) -> Begun {
    let is_late =
        |until: Instant| shared.able.is_late(until.saturating_duration_since(Instant::now()));
    if shared.is_draining() || until.is_some_and(is_late) {
        return Begun::Settled(release(leased.receipt));
    }
    shared.counters.delivered.one();
    let Leased { receipt, event, attempt, lost, finished, only } = leased;
    let event = match event {
        Ok(event) => event,
        Err(undecodable) => return poison(shared, receipt, attempt, &undecodable),
    };
    let Some(mut open) = (shared.matching)(&event) else {
        return give_back(shared, receipt, attempt);
    };
    let fresh = attempt == 1 && finished.is_empty() && only.is_none();
    if let Some(only) = &only {
        open.retain(|entry| *entry.name == **only);
        if open.is_empty() {
            return give_back(shared, receipt, attempt);
        }
    } else if !finished.is_empty() {
        open.retain(|entry| !finished.iter().any(|name| **name == *entry.name));
    }
    let mut ended = Vec::new();
    if open.is_empty() {
        if shared.left.is_again(event.id()) {
            return give_back(shared, receipt, attempt);
        }
        shared.counters.unmatched.one();
        ended.push(("".into(), End::Unmatched));
    }
    let (group, marks) = (Some(Arc::clone(&shared.group)), Marks::default());
    let delivery = Delivery { event, attempt, group, marks };
    let (done, failed) = (SmallVec::new(), Vec::new());
    let (skipped, told) = (false, Vec::new());
    Begun::Run(Work {
        delivery,
        receipt,
        lost,
        open,
        skipped,
        fresh,
        done,
        ended,
        failed,
        told,
        until,
    })
}

/// Gives back an event that nobody here wants: the backend can't tell, or the subscription that did
/// was cancelled after it was fetched.
fn give_back(shared: &Shared, receipt: Receipt, attempt: u32) -> Begun {
    shared.counters.unrouted.one();
    let Leaving { verdict, here } = shared.able.leave(attempt);
    let settle = Settle::new(receipt, verdict);
    if here.is_zero() { Begun::Settled(settle) } else { Begun::Unrouted(settle, here) }
}

/// Settles bytes that are no event: no try will ever make one of them.
fn poison(shared: &Shared, receipt: Receipt, attempt: u32, undecodable: &Undecodable) -> Begun {
    let (name, policy) = (shared.policy)();
    let reason = undecodable.error.to_string();
    tracing::error!(group = &*shared.group, %reason, "what was stored is not an event");
    let failed =
        Try { attempt, at: Timestamp::now(), subscription: name.clone(), reason: reason.clone() };
    match policy.last(reason) {
        Decision::End(end) => {
            match &end {
                End::Dead(_) => shared.counters.dead_lettered.one(),
                _ => shared.counters.failed.one(),
            }
            let mut settle = Settle::new(receipt, Verdict::Ack);
            (settle.ended, settle.failed) = (vec![(name.into(), end)], vec![failed]);
            Begun::Settled(settle)
        }
        Decision::Stop(reason) | Decision::Again(_, reason) => Begun::Stop(reason),
    }
}

/// Runs a leased event through the group's subscriptions and settles it.
pub(super) async fn work(shared: &Shared, leased: Leased, until: Option<Instant>, held: Held) {
    match begin(shared, leased, until) {
        Begun::Run(mut work) => {
            let first = shared.pace.measure(work.round(shared)).await;
            work.go_on(shared, first, held).await;
        }
        Begun::Settled(settle) => {
            drop(held);
            tell(shared, None, shared.settler.settle(settle).await);
        }
        Begun::Unrouted(settle, wait) => leave_to_others(shared, settle, wait, held).await,
        Begun::Stop(reason) => shared.fail_by_policy(reason),
    }
}

impl Work {
    /// Returns the event.
    pub(super) fn event(&self) -> &Event {
        &self.delivery.event
    }

    /// Takes the event out, once the rest is told.
    pub(super) fn into_event(self) -> Event {
        self.delivery.event
    }

    /// Returns what settles it.
    pub(super) fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Tells whether a round never waits for anything.
    pub(super) fn is_sync(&self) -> bool {
        self.open.iter().all(|entry| !entry.manual && !entry.handler.is_async())
    }

    /// Tells whether all there is to do when its subscriptions are through is to settle it.
    pub(super) fn is_plain(&self) -> bool {
        !self.skipped && !self.told.iter().any(|told| !told.is_closed())
    }

    /// Returns how a delivery is settled that all subscriptions are through with.
    pub(super) fn through(&mut self) -> Settle {
        self.take(Verdict::Ack)
    }

    /// Gives the event back: not all who want it could have it here.
    async fn leave(&mut self, shared: &Shared, held: &mut Option<Held>) {
        shared.counters.unrouted.one();
        shared.left.note(self.event().id());
        let Leaving { verdict, here } = shared.able.leave(self.delivery.attempt);
        let rest = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let here = rest.map_or(here, |rest| rest.min(here));
        if !here.is_zero() {
            wait_here(shared, here).await;
        }
        let settle = self.take(verdict);
        self.end(shared, held, settle).await;
    }

    /// Goes on after a round, until it is settled.
    pub(super) async fn go_on(mut self, shared: &Shared, first: Round, held: Held) {
        let (mut round, mut held) = (first, Some(held));
        loop {
            let wait = match round {
                Round::Through if self.skipped => return self.leave(shared, &mut held).await,
                Round::Through => {
                    let settle = self.through();
                    return self.end(shared, &mut held, settle).await;
                }
                Round::Again(wait) => wait,
                Round::Stop(reason) => {
                    // First, or the fetch under way takes the event up again.
                    shared.stop();
                    let settle = self.take(Verdict::Nack { delay: Duration::ZERO });
                    self.end(shared, &mut held, settle).await;
                    return shared.fail_by_policy(reason);
                }
            };
            if !(shared.able.is_in_place(wait) && wait_here(shared, wait).await) {
                let settle = self.take(Verdict::Nack { delay: shared.able.hold(wait) });
                return self.end(shared, &mut held, settle).await;
            }
            self.delivery.attempt = self.delivery.attempt.saturating_add(1);
            self.lost = false;
            // Counted before it starts, as a delivery is: a crash in it is a try.
            let extend = self.take(Verdict::Extend { tries: 1 });
            let extended = shared.settler.settle(extend).await;
            if !self.tell(shared, extended) {
                return;
            }
            round = self.round(shared).await;
        }
    }

    async fn end(&mut self, shared: &Shared, held: &mut Option<Held>, settle: Settle) {
        // No renewal may overtake the end.
        *held = None;
        let settled = shared.settler.settle(settle).await;
        self.tell(shared, settled);
    }

    /// Tells of a settlement, also those who wait for it; false if it failed.
    fn tell(&mut self, shared: &Shared, settled: Result<()>) -> bool {
        for told in self.told.drain(..) {
            // Most don't wait.
            drop(told.send(settled.clone()));
        }
        tell(shared, Some(self.event()), settled)
    }

    /// Returns the settlement of what is known so far.
    fn take(&mut self, verdict: Verdict) -> Settle {
        let mut ended = std::mem::take(&mut self.ended);
        let plain = self.fresh && ended.is_empty() && self.failed.is_empty();
        self.fresh = false;
        // That all are done need not be said of each.
        if !(plain && verdict == Verdict::Ack) {
            ended.extend(self.done.drain(..).map(|entry| (Arc::clone(&entry.name), End::Done)));
        }
        Settle {
            receipt: self.receipt.clone(),
            verdict,
            ended,
            failed: std::mem::take(&mut self.failed),
            retried: self.delivery.marks.retried(),
        }
    }

    /// Runs each subscription that is not through yet, once, in order.
    pub(super) async fn round(&mut self, shared: &Shared) -> Round {
        let mut again: Option<Duration> = None;
        for entry in std::mem::take(&mut self.open) {
            if entry.is_cancelled() {
                self.skipped = true;
                continue;
            }
            if self.lost && entry.policy.is_exhausted(self.delivery.attempt) {
                self.exhausted(shared, &entry);
                continue;
            }
            let outcome = self.call(shared, &entry).await;
            let decision = entry.policy.decide(outcome, self.delivery.attempt);
            match decision {
                Decision::End(End::Done) => {
                    shared.counters.succeeded.one();
                    self.done.push(entry);
                }
                Decision::End(end) => self.ended(shared, &entry, end),
                Decision::Again(wait, reason) => {
                    shared.counters.retried.one();
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
    fn exhausted(&mut self, shared: &Shared, entry: &Entry) {
        let tries = self.delivery.attempt - 1;
        let reason =
            format!("delivered {tries} times, never settled: the process died or hung each time");
        context::span(self.event())
            .in_scope(|| tracing::warn!(subscription = &*entry.name, reason, "given up"));
        if let Decision::End(end) = entry.policy.last(reason) {
            count(shared, &end);
            self.ended.push((entry.name.clone(), end));
        }
    }

    fn ended(&mut self, shared: &Shared, entry: &Entry, end: End) {
        count(shared, &end);
        match &end {
            End::Failed(reason) => self.note(entry, reason, "let go"),
            End::Dead(reason) => self.note(entry, reason, "dead letter"),
            End::Done | End::Unmatched => {}
        }
        self.ended.push((entry.name.clone(), end));
    }

    fn note(&mut self, entry: &Entry, reason: &str, next: &str) {
        let (subscription, attempt) = (&*entry.name, self.delivery.attempt);
        context::span(self.event()).in_scope(|| {
            tracing::warn!(subscription, attempt, reason, next, "a handler failed");
        });
        self.failed.push(Try {
            attempt: self.delivery.attempt,
            at: Timestamp::now(),
            subscription: entry.name.to_string(),
            reason: reason.into(),
        });
    }

    async fn call(&mut self, shared: &Shared, entry: &Entry) -> Outcome {
        if let Some(until) = self.until {
            // Boxed: it is the rarer way, and would make the other one larger.
            let running = Box::pin(timeout_at(until, run_entry(entry, &self.delivery)));
            return running.await.unwrap_or_else(|_| Outcome::Failed(Box::new(too_long(shared))));
        }
        if !entry.manual {
            return run_entry(entry, &self.delivery).await;
        }
        let mut hand = Hand::new(&self.delivery, &self.receipt);
        let outcome = hand.run(shared, entry).await;
        self.fresh &= !hand.has_settled();
        self.told.extend(hand.told());
        outcome
    }
}

fn too_long(shared: &Shared) -> Error {
    let why = format!("the lease of {:?} ends, and the backend extends none", shared.able.lease());
    Error::new(ErrorKind::Timeout, "handler", why)
        .hint("set a .lease(..) that is longer than the handler takes")
}

fn count(shared: &Shared, end: &End) {
    let counters = &shared.counters;
    match end {
        End::Done => counters.succeeded.one(),
        End::Unmatched => counters.unmatched.one(),
        End::Failed(_) => counters.failed.one(),
        End::Dead(_) => counters.dead_lettered.one(),
    }
}
