//! Dispatch of broadcasts: each matching subscription in turn, whatever the others do.

use super::{
    failure::{Failed, settle},
    matches::Matches,
    report::{HandlerFailure, Report},
    table::Snapshot,
};
use crate::{
    consumer::{Entry, panicked},
    context,
    delivery::{Decision, End, Outcome},
    event::Event,
    handler::{Call, Called},
    instrument::{Counters, seat},
};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

/// A dispatch under way: the subscriptions that are still to come, and what came of the others.
pub(super) struct Dispatch<'a> {
    event: &'a Event,
    matches: Matches<'a>,
    // The one that is being asked, or that runs.
    current: Option<&'a Arc<Entry>>,
    asking: bool,
    succeeded: u64,
    failed: bool,
    report: Report,
    again: Vec<(Arc<Entry>, Duration)>,
}

/// A handler's future.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// What a dispatch needs before it can go on.
pub(super) enum Need<'a> {
    /// Nothing: it is through.
    Nothing,
    /// A handler's future is to be awaited.
    Await(Running<'a>),
    /// A failure is to be told to who listens for failures.
    Tell(Failed),
}

impl<'a> Dispatch<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, event: &'a Event) -> Self {
        Self {
            event,
            matches: snapshot.broadcasts(event),
            current: None,
            asking: false,
            succeeded: 0,
            failed: false,
            report: Report::default(),
            again: Vec::new(),
        }
    }

    /// Runs subscriptions until one of them needs something.
    pub(super) fn go(&mut self) -> Need<'a> {
        let event = self.event;
        let mut run = || context::deliver(event, || self.run());
        // One landing pad for the whole loop: setting it up costs, a panic costs anyway.
        let span = tracing::level_filters::LevelFilter::current();
        match span == tracing::level_filters::LevelFilter::OFF {
            true => run(),
            false => context::span(event).in_scope(run),
        }
    }

    fn run(&mut self) -> Need<'a> {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.walk())) {
                Ok(need) => return need,
                Err(panic) => {
                    let what = if self.asking { "the predicate panicked" } else { "panicked" };
                    if let Some(failed) = self.ended(panicked(what, &*panic)) {
                        return Need::Tell(failed);
                    }
                }
            }
        }
    }

    fn walk(&mut self) -> Need<'a> {
        while let Some(entry) = self.matches.next() {
            // A handler before this one may have cancelled it.
            if entry.is_cancelled() {
                continue;
            }
            self.current = Some(entry);
            if !entry.plain {
                self.asking = true;
                if !entry.predicate.matches(self.event) {
                    continue;
                }
            }
            self.asking = false;
            match entry.handler.call(Call::broadcast(self.event, 1, &entry.world)) {
                Called::Now(Outcome::Done) => self.succeeded += 1,
                Called::Later(running) => return Need::Await(running),
                Called::Now(outcome) => {
                    if let Some(failed) = self.ended(outcome) {
                        return Need::Tell(failed);
                    }
                }
            }
        }
        Need::Nothing
    }

    /// Takes down what the current subscription came to; returns the failure, if it was one.
    pub(super) fn ended(&mut self, outcome: Outcome) -> Option<Failed> {
        let entry = self.current?;
        let (reason, again) = match entry.policy.decide(outcome, 1) {
            Decision::End(End::Done) => {
                self.succeeded += 1;
                return None;
            }
            Decision::End(End::Unmatched) => return None,
            Decision::Again(wait, reason) => {
                self.report.retrying += 1;
                self.again.push((Arc::clone(entry), wait));
                (reason, Some(wait))
            }
            Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
                self.failed = true;
                let failure =
                    HandlerFailure { subscription: entry.name.clone(), error: reason.clone() };
                self.report.failures.push(failure);
                (reason, None)
            }
        };
        self.report.matched += 1;
        Some(Failed::new(entry, self.event, 1, reason, again))
    }

    /// Ends the dispatch and counts it, unless it is one of Railbus's own events; returns what is
    /// to be tried again.
    pub(super) fn finish(mut self, counters: Option<&Counters>) -> (Report, Again) {
        self.report.matched += self.succeeded as usize;
        let worst = match (self.failed, self.succeeded) {
            (true, _) => Worst::Failed,
            (false, 0) => Worst::Unmatched,
            (false, _) => Worst::Succeeded,
        };
        if let Some(counters) = counters {
            let seat = seat();
            if self.report.matched > 0 {
                counters.delivered.add_at(seat, 1);
            }
            if self.succeeded > 0 {
                counters.succeeded.add_at(seat, self.succeeded);
            }
            if self.again.is_empty() {
                worst.count(counters);
            }
        }
        (self.report, Again { tries: self.again, worst })
    }
}

/// Subscriptions that failed and are to be tried again, and what the others came to.
pub(super) struct Again {
    tries: Vec<(Arc<Entry>, Duration)>,
    worst: Worst,
}

impl Again {
    pub(super) fn is_empty(&self) -> bool {
        self.tries.is_empty()
    }

    /// Makes the further tries, all subscriptions at once, each until it is through.
    pub(super) async fn run(
        self,
        event: Event,
        counters: Arc<Counters>,
        tell: impl Fn(Failed) + Sync,
    ) {
        let tries = self.tries.into_iter();
        let tries = tries.map(|(e, wait)| settle(e, &event, wait, &counters, &tell));
        let ended = futures_util::future::join_all(tries).await;
        let worst = ended.into_iter().map(|d| Worst::of(&d)).fold(self.worst, Worst::max);
        counters.broadcasts.retried.one();
        worst.count(&counters);
    }
}

/// What became of an event over all its broadcast subscriptions, worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worst {
    Unmatched,
    Succeeded,
    Failed,
}

impl Worst {
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision::End(End::Unmatched) => Self::Unmatched,
            Decision::End(End::Done) => Self::Succeeded,
            _ => Self::Failed,
        }
    }

    fn count(self, counters: &Counters) {
        let events = &counters.broadcasts;
        match self {
            Self::Unmatched => events.unmatched.one(),
            Self::Succeeded => events.succeeded.one(),
            Self::Failed => events.failed.one(),
        }
    }
}
