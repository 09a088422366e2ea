//! Dispatch of broadcasts: each matching subscription in turn, whatever the others do.

use super::{
    failure::{Failed, decide, settle},
    index::Lists,
    matches::Matches,
    report::{HandlerFailure, Report},
};
use crate::{
    consumer::Entry,
    context,
    delivery::{Decision, End, Outcome, panicked},
    event::Event,
    handler::{Call, Called},
    instrument::{Counters, Seat, seat},
    task::let_go,
};
use futures_util::future::{join, join_all};
use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    slice,
    sync::Arc,
    time::Duration,
};

/// A dispatch under way: the subscriptions that are still to come, and what came of the others.
pub(super) struct Dispatch<'a> {
    event: &'a Event,
    matches: Matches<'a>,
    way: Way<'a>,
    failed: bool,
    report: Report,
    again: Vec<(Arc<Entry>, Duration, String)>,
    // Subscriptions whose batches decide later.
    later: Vec<(Arc<Entry>, Outcome)>,
}

/// How far a dispatch is.
#[derive(Default)]
struct Way<'a> {
    /// The one that is being asked, or that runs.
    current: Option<&'a Arc<Entry>>,
    asking: bool,
    succeeded: u64,
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
    Tell(Box<Failed>),
}

/// Why a walk stopped: nobody is left, a handler did not simply succeed, or something panicked.
pub(super) type Stop<'a> = Result<Option<Called<'a>>, Box<dyn Any + Send>>;

/// The start of a dispatch. Nearly always the subscriptions that may want an event are in one
/// list, and succeed: that way there is nothing to set up.
pub(super) struct Start<'a> {
    event: &'a Event,
    list: slice::Iter<'a, Arc<Entry>>,
    way: Way<'a>,
}

impl<'a> Start<'a> {
    #[inline]
    pub(super) fn new(event: &'a Event, list: &'a [Arc<Entry>]) -> Self {
        Self { event, list: list.iter(), way: Way::default() }
    }

    /// Runs subscriptions until one does not simply succeed; `outside` if it is known that nothing
    /// caused what runs here.
    #[inline]
    pub(super) fn go(&mut self, outside: bool) -> Stop<'a> {
        let Self { event, list, way } = self;
        // One landing pad for the whole way: setting it up costs, a panic costs anyway.
        context::deliver(event, outside, || {
            catch_unwind(AssertUnwindSafe(|| way.walk(list, event)))
        })
    }

    /// Notes that the handler that had to be awaited succeeded.
    #[inline]
    pub(super) fn succeeded(&mut self) {
        self.way.succeeded += 1;
    }

    /// Tells whether nobody is left.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.list.len() == 0
    }

    /// Ends it; returns how many succeeded.
    #[inline]
    pub(super) fn through(&self) -> u64 {
        self.way.succeeded
    }

    /// Goes on with what is not that simple.
    #[inline(never)]
    pub(super) fn resume(self, stopped: Stop<'a>) -> (Dispatch<'a>, Need<'a>) {
        let Self { event, list, way } = self;
        let only = Lists { first: list.as_slice(), ..Lists::default() };
        let mut dispatch = Dispatch::new(event, only, way);
        let need = dispatch.need(stopped).unwrap_or_else(|| dispatch.go());
        (dispatch, need)
    }
}

impl<'a> Way<'a> {
    /// Runs subscriptions until one does not simply succeed.
    #[inline]
    fn walk(
        &mut self,
        entries: &mut impl Iterator<Item = &'a Arc<Entry>>,
        event: &'a Event,
    ) -> Option<Called<'a>> {
        for entry in entries {
            // A handler before this one may have cancelled it.
            if entry.is_cancelled() {
                continue;
            }
            self.current = Some(entry);
            if !entry.plain {
                self.asking = true;
                let wanted = entry.predicate.matches(event);
                self.asking = false;
                if !wanted {
                    continue;
                }
            }
            let called = entry.handler.call(Call::broadcast(event, 1, &entry.world));
            if !matches!(called, Called::Now(Outcome::Done)) {
                return Some(called);
            }
            // There is nothing in it to drop, and finding that out costs a call for each handler.
            std::mem::forget(called);
            self.succeeded += 1;
        }
        None
    }
}

impl<'a> Dispatch<'a> {
    /// Begins a dispatch to several lists.
    #[inline(never)]
    pub(super) fn begin(event: &'a Event, lists: Option<Lists<'a>>) -> (Self, Need<'a>) {
        let mut dispatch = Self::new(event, lists.unwrap_or_default(), Way::default());
        let need = dispatch.go();
        (dispatch, need)
    }

    fn new(event: &'a Event, lists: Lists<'a>, way: Way<'a>) -> Self {
        let (matches, report) = (Matches::new(lists), Report::default());
        Self { event, matches, way, failed: false, report, again: Vec::new(), later: Vec::new() }
    }

    /// Runs subscriptions until one of them needs something.
    pub(super) fn go(&mut self) -> Need<'a> {
        let event = self.event;
        context::deliver(event, context::is_outside(), || {
            loop {
                let walk = || self.way.walk(&mut self.matches, event);
                match catch_unwind(AssertUnwindSafe(walk)) {
                    Ok(None) => return Need::Nothing,
                    stopped => {
                        if let Some(need) = self.need(stopped) {
                            return need;
                        }
                    }
                }
            }
        })
    }

    /// Returns what is needed to go on after the current subscription, if anything is.
    fn need(&mut self, stopped: Stop<'a>) -> Option<Need<'a>> {
        let outcome = match stopped {
            Ok(None) => return None,
            Ok(Some(Called::Later(running))) => return Some(Need::Await(running)),
            Ok(Some(Called::Now(outcome))) => outcome,
            Err(panic) => {
                let asking = std::mem::take(&mut self.way.asking);
                let what = if asking { "the predicate panicked" } else { "panicked" };
                let outcome = panicked(what, &*panic);
                let_go(panic);
                outcome
            }
        };
        self.ended(outcome).map(Need::Tell)
    }

    /// Takes down what the current subscription came to; returns the failure, if it was one.
    pub(super) fn ended(&mut self, outcome: Outcome) -> Option<Box<Failed>> {
        let entry = self.way.current?;
        if let Outcome::Pending(_) = outcome {
            self.report.matched += 1;
            self.later.push((Arc::clone(entry), outcome));
            return None;
        }
        let (reason, again) = match entry.policy.decide(outcome, 1) {
            Decision::End(End::Done) => {
                self.way.succeeded += 1;
                return None;
            }
            Decision::End(End::Unmatched) => return None,
            Decision::Again(wait, reason) => {
                self.report.retrying += 1;
                self.again.push((Arc::clone(entry), wait, reason.clone()));
                (reason, Some(wait))
            }
            Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
                self.failed = true;
                let failure =
                    HandlerFailure { subscription: entry.name.to_string(), error: reason.clone() };
                self.report.failures.push(failure);
                (reason, None)
            }
        };
        self.report.matched += 1;
        Some(Box::new(Failed::new(entry, self.event, 1, reason, again)))
    }

    /// Ends the dispatch; returns what is to be tried again, if anything is. Counted unless it is
    /// one of Railbus's own events.
    pub(super) fn finish(mut self, counters: Option<&Counters>) -> (Report, Option<Again>) {
        let succeeded = self.way.succeeded;
        self.report.matched += succeeded as usize;
        let worst = match (self.failed, succeeded) {
            (true, _) => Worst::Failed,
            (false, 0) => Worst::Unmatched,
            (false, _) => Worst::Succeeded,
        };
        let none = self.again.is_empty() && self.later.is_empty();
        let again = (!none).then_some(Again { tries: self.again, later: self.later, worst });
        if let Some(counters) = counters {
            let seat = seat();
            counters.delivered.add_at(seat, u64::from(self.report.matched > 0));
            counters.succeeded.add_at(seat, succeeded);
            if again.is_none() {
                worst.count(counters, seat);
            }
        }
        (self.report, again)
    }
}

/// Counts a dispatch that was through at once.
#[inline]
pub(super) fn count_through(counters: &Counters, seat: Seat, succeeded: u64) {
    match succeeded {
        0 => counters.broadcasts.unmatched.add_at(seat, 1),
        _ => {
            counters.delivered.add_at(seat, 1);
            counters.succeeded.add_at(seat, succeeded);
            counters.broadcasts.succeeded.add_at(seat, 1);
        }
    }
}

/// Subscriptions that failed and are to be tried again, and what the others came to.
pub(super) struct Again {
    tries: Vec<(Arc<Entry>, Duration, String)>,
    later: Vec<(Arc<Entry>, Outcome)>,
    worst: Worst,
}

impl Again {
    /// Makes no further tries: those that wait for one failed.
    pub(super) fn give_up(self, report: &mut Report, counters: Option<&Counters>) {
        for (entry, _, error) in self.tries {
            report.retrying -= 1;
            report.failures.push(HandlerFailure { subscription: entry.name.to_string(), error });
            if let Some(counters) = counters {
                counters.failed.one();
            }
        }
        if let Some(counters) = counters {
            Worst::Failed.count(counters, seat());
        }
    }

    /// Makes the further tries, all subscriptions at once, each until it is through. Counted
    /// unless it is one of Railbus's own events.
    pub(super) async fn run(
        self,
        event: Event,
        counters: Option<&Counters>,
        tell: impl Fn(Failed) + Sync,
    ) {
        let tries = self.tries.into_iter();
        let tries = tries.map(|(e, wait, _)| settle(e, &event, wait, counters, &tell));
        let later = self.later.into_iter();
        let later = later.map(|(e, outcome)| decide(e, &event, outcome, counters, &tell));
        let (tried, decided) = join(join_all(tries), join_all(later)).await;
        let retried = !tried.is_empty() || decided.iter().any(|(_, retried)| *retried);
        let ended = tried.into_iter().chain(decided.into_iter().map(|(decision, _)| decision));
        let worst = ended.map(|d| Worst::of(&d)).fold(self.worst, Worst::max);
        if let Some(counters) = counters {
            counters.broadcasts.retried.add_at(seat(), u64::from(retried));
            worst.count(counters, seat());
        }
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

    fn count(self, counters: &Counters, seat: Seat) {
        let events = &counters.broadcasts;
        let counter = match self {
            Self::Unmatched => &events.unmatched,
            Self::Succeeded => &events.succeeded,
            Self::Failed => &events.failed,
        };
        counter.add_at(seat, 1);
    }
}
