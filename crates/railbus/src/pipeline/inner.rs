//! Steps with steps of their own: a nested pipeline, a step for each item, one that repeats.

use super::{
    lane::{Going, given_up},
    once::{Along, Around, Came, One},
    parts::{Asks, Body, Each, How, Limits, Pipeline, Repeat, Sub, Work},
    report::{Inside, ItemsReport, RunReport, said},
    status::Status,
};
use crate::{
    error::{Error, ErrorKind},
    payload::RawPayload,
    step::{Exception, Failure, Flow, Joined, StepError, StepResult, Store, split},
    task,
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::available_parallelism,
};

/// How many of the items that did not succeed a report tells one by one.
const FAILURES_MAX: usize = 100;

/// After how many items others get their turn.
const BREATH: u64 = 64;

impl<'a> One<'a> {
    /// Runs the steps of a step once.
    pub(super) fn inner<'s>(
        &'s self,
        around: Around<'s>,
        along: &'s mut Along,
    ) -> BoxFuture<'s, Came> {
        Box::pin(async move {
            let Work::Sub(Sub { how, body: Body::Built(pipeline) }) = &self.def().work else {
                return Came::LeftOut;
            };
            let limits = self.going.limits.until(self.def().timeout);
            let inner =
                Inner { pipeline, going: self.going, limits: &limits, name: self.def().name() };
            let came = match how {
                How::Nested => inner.nested(self, self.given(pipeline, around), along).await,
                How::Each(each) => inner.each(self, each, around, along).await,
                How::Repeat(repeat) => inner.repeat(self, repeat, around, along).await,
            };
            match came {
                // It was a limit of the step's own, or of its pipeline, if the run has time.
                Came::Cut(_) if self.going.limits.over().is_none() => {
                    let limit = [self.def().timeout, pipeline.0.timeout].into_iter().flatten();
                    let limit = limit.min().unwrap_or_default();
                    let why = format!("it took longer than {limit:?}");
                    Came::Not(StepError::Exception(Exception::new("timeout", why)))
                }
                came => came,
            }
        })
    }

    /// Tells whether its value is bound to what follows.
    fn is_told(&self) -> bool {
        self.going.plan.nodes[self.index].is_told
    }

    /// Returns the values that the inner pipeline is given.
    fn given(&self, pipeline: &Pipeline, around: Around<'_>) -> Store {
        let wanted = &pipeline.0.wanted;
        let names = wanted.inputs.iter().map(|given| &given.name).chain(&wanted.optional);
        let mut store = Store::new();
        for name in names {
            if let Some(value) = around.store.value(around.bindings.key(name)) {
                store.keep(name, value.clone());
            }
        }
        store
    }
}

/// A pipeline in a step.
struct Inner<'a> {
    pipeline: &'a Pipeline,
    going: Going<'a>,
    limits: &'a Limits,
    name: &'a str,
}

impl Inner<'_> {
    /// Runs the pipeline once.
    async fn run(&self, store: Store, time: Time) -> RunReport {
        let Going { cause, log, prefix, .. } = self.going;
        let prefix = match log {
            Some(_) => format!("{prefix}{}{time}/", self.name),
            None => String::new(),
        };
        let going = Going {
            plan: &self.pipeline.0,
            cause,
            limits: self.limits,
            watch: None,
            log,
            prefix: &prefix,
        };
        self.pipeline.go(Arc::new(store), going).await
    }

    async fn nested(&self, one: &One<'_>, store: Store, along: &mut Along) -> Came {
        let mut report = self.run(store, Time::Only).await;
        let came = match came(&mut report) {
            // What is piped on is what its last step left.
            Came::Went(Flow::Next(None)) if one.is_told() => {
                Came::Went(Flow::Next(report.last_value().cloned()))
            }
            came => came,
        };
        self.leave(&report, along);
        along.inside = Some(Inside::Run(Arc::new(report)));
        came
    }

    /// Takes over what the steps left.
    fn leave(&self, report: &RunReport, along: &mut Along) {
        let names = self.pipeline.0.leaves.iter().map(|leaf| &leaf.name);
        let left = |name: &Arc<str>| Some((Arc::clone(name), report.store.value(name)?.clone()));
        along.left = names.filter_map(left).collect();
    }

    async fn repeat(
        &self,
        one: &One<'_>,
        repeat: &Repeat,
        around: Around<'_>,
        along: &mut Along,
    ) -> Came {
        let given = one.given(self.pipeline, around);
        let mut store = Arc::new(given.clone());
        let (mut times, mut last) = (0, None);
        loop {
            match self.goes_on(one, repeat, Around { store: &store, ..around }) {
                Ok(true) => {}
                Ok(false) => return Came::Went(Flow::Next(last)),
                Err(error) => return Came::Not(error),
            }
            if times == repeat.times && repeat.is_bounded {
                return Came::Went(Flow::Next(last));
            }
            if times == repeat.times {
                let why = format!("it was repeated {times} times, and its end did not come");
                return Came::Not(StepError::Exception(Exception::new("loop", why)));
            }
            times += 1;
            let begin = if repeat.is_fresh { given.clone() } else { Store::clone(&store) };
            let mut report = self.run(begin, Time::Again(times)).await;
            let came = came(&mut report);
            self.leave(&report, along);
            store = Arc::clone(&report.store);
            last = report.last_value().filter(|_| one.is_told()).cloned();
            let is_over = report.status() == Status::Stopped;
            along.inside = Some(Inside::Run(Arc::new(report)));
            match came {
                Came::Went(Flow::Next(_)) if is_over => return Came::Went(Flow::Next(last)),
                Came::Went(Flow::Next(_)) => {}
                came => return came,
            }
            if u64::from(times).is_multiple_of(BREATH) {
                task::breathe().await;
            }
        }
    }

    fn goes_on(&self, one: &One<'_>, repeat: &Repeat, around: Around<'_>) -> StepResult<bool> {
        let ask = |asks: &Asks<bool>| {
            let asked = || asks.ask(&one.input(around));
            catch_unwind(AssertUnwindSafe(asked)).unwrap_or_else(|_| {
                let why = "the condition of a repetition panicked";
                Err(StepError::Exception(Exception::new("panic", why)))
            })
        };
        let decide = || {
            let goes_on = repeat.goes_on.as_ref().map_or(Ok(true), ask)?;
            let ends = repeat.until.as_ref().map_or(Ok(false), ask)?;
            Ok(goes_on && !ends)
        };
        match self.going.log.filter(|_| repeat.goes_on.is_some() || repeat.until.is_some()) {
            Some(log) => log.decide(self.going.prefix, &format!("{}?", self.name), decide).0,
            None => decide(),
        }
    }

    async fn each(
        &self,
        one: &One<'_>,
        each: &Each,
        around: Around<'_>,
        along: &mut Along,
    ) -> Came {
        let wrong = |error: Error| {
            let error = error.with("items", &each.items);
            Came::Not(StepError::Exception(Exception::new("input", error)))
        };
        let key = around.bindings.key(&each.items);
        let Some(collection) = around.store.value(key) else {
            let why = format!("there is no `{key}` to take items of");
            return wrong(Error::new(ErrorKind::NotFound, "each", why));
        };
        let items = match split(collection) {
            Ok(items) => items,
            Err(error) => return wrong(error),
        };
        let limits = if each.is_fail_fast { self.limits.apart() } else { self.limits.clone() };
        let inner = Inner { limits: &limits, ..*self };
        let given = one.given(self.pipeline, around);
        let mut all = Many::new(each.keeps);
        inner.run_items(each, items, given, &mut all).await;
        let came = all.came(each);
        let value = all.values.take().map(|values| RawPayload::of(Joined(values)));
        along.inside = Some(Inside::Items(Arc::new(all.report)));
        match (self.limits.over(), came) {
            (Some(reason), _) => Came::Cut(reason),
            (None, None) => Came::Went(Flow::Next(value)),
            (None, Some(error)) => Came::Not(error),
        }
    }

    /// Tells whether a run that is kept, and is not given up itself, had begun with an item.
    fn began(&self, place: usize) -> bool {
        let log = self.going.log.filter(|log| log.limits.over().is_none());
        let item = format!("{}{}/", self.name, Time::Item(place));
        log.is_some_and(|log| log.knows(self.going.prefix, &item))
    }

    /// Runs the pipeline for each item, so many at once.
    async fn run_items(
        &self,
        each: &Each,
        items: impl Iterator<Item = RawPayload> + Send,
        given: Store,
        all: &mut Many,
    ) {
        let at_once = each.at_once.unwrap_or_else(|| available_parallelism().map_or(1, Into::into));
        let item = each.item.as_deref().unwrap_or_default();
        // What ended or panicked once is not asked again.
        let mut items = Some(items.enumerate());
        let (mut running, mut begun) = (FuturesUnordered::new(), 0);
        loop {
            while running.len() < at_once && (self.limits.over().is_none() || self.began(begun)) {
                let Some(source) = &mut items else { break };
                // It is the program's, and may panic.
                let next = catch_unwind(AssertUnwindSafe(|| source.next()));
                let (place, value) = match next {
                    Ok(Some(item)) => item,
                    Ok(None) => {
                        items = None;
                        break;
                    }
                    Err(panic) => {
                        task::let_go(panic);
                        (items, all.broke) = (None, true);
                        break;
                    }
                };
                let mut store = given.clone();
                store.keep(item, value);
                begun = place + 1;
                running.push(async move { (place, self.run(store, Time::Item(place)).await) });
            }
            let Some((place, report)) = running.next().await else { return };
            let failed = all.add(place, report);
            if failed
                && each.is_fail_fast
                && let Some(cancel) = &self.limits.cancel
            {
                cancel.cancel();
            }
            if all.count().is_multiple_of(BREATH) {
                task::breathe().await;
            }
        }
    }
}

/// Which time a step's own steps run, as the journal tells it.
enum Time {
    Only,
    Item(usize),
    Again(u32),
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Only => Ok(()),
            Self::Item(place) => write!(f, "#{place}"),
            Self::Again(times) => write!(f, "@{times}"),
        }
    }
}

/// What became of many items.
struct Many {
    report: ItemsReport,
    // By their places.
    values: Option<Vec<Option<RawPayload>>>,
    // The worst that became of one, the first in the order of the items.
    worst: Option<(usize, StepError)>,
    broke: bool,
}

impl Many {
    fn new(keeps: bool) -> Self {
        let report = ItemsReport::default();
        Self { report, values: keeps.then(Vec::new), worst: None, broke: false }
    }

    fn count(&self) -> u64 {
        self.report.succeeded + self.report.failed
    }

    /// Takes in what became of an item; tells whether it failed.
    fn add(&mut self, place: usize, mut report: RunReport) -> bool {
        let came = came(&mut report);
        if let Some(values) = &mut self.values {
            if values.len() <= place {
                values.resize(place + 1, None);
            }
            values[place] = report.last_value().filter(|_| matches!(came, Came::Went(_))).cloned();
        }
        let error = match came {
            Came::Not(error) => error,
            Came::Cut(reason) => given_up(reason),
            _ => {
                self.report.succeeded += 1;
                return false;
            }
        };
        self.report.failed += 1;
        if self.report.failures.len() < FAILURES_MAX {
            self.report.failures.push((place as u64, said(&error)));
        }
        let rank =
            |place: usize, error: &StepError| (matches!(error, StepError::Failure(_)), place);
        if self.worst.as_ref().is_none_or(|(at, known)| rank(place, &error) < rank(*at, known)) {
            self.worst = Some((place, error));
        }
        true
    }

    /// Returns why the whole failed, if it did.
    fn came(&mut self, each: &Each) -> Option<StepError> {
        self.report.failures.sort_by_key(|(place, _)| *place);
        if self.broke {
            let why = "what makes the items panicked";
            return Some(StepError::Exception(Exception::new("panic", why)));
        }
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (well, all) = (count(self.report.succeeded), count(self.count()));
        if each.evaluation.succeeds(well, all) && !(each.is_fail_fast && self.report.failed > 0) {
            return None;
        }
        let (failed, total) = (self.report.failed, self.count());
        Some(match self.worst.take() {
            None => StepError::Failure(Failure::new("there are no items")),
            Some((place, StepError::Failure(failure))) => {
                let why = format!("{failed} of {total} items did not succeed; item {place}");
                StepError::Failure(Failure::new(why).value(failure.found()).because(failure))
            }
            Some((place, StepError::Exception(Exception { kind, error }))) => {
                let why = format!("{failed} of {total} items did not succeed; item {place}");
                let error = Error::new(ErrorKind::Handler, "each", why).because(error);
                StepError::Exception(Exception::new(kind, error))
            }
        })
    }
}

/// Returns what a step came to whose steps ran so. The error is taken out of the report; its steps
/// still tell of it.
fn came(report: &mut RunReport) -> Came {
    if let Some((_, reason)) = &report.cancelled {
        return Came::Cut(*reason);
    }
    match report.failed.take() {
        Some((step, error)) => {
            // What the report's status is read from.
            report.failed = Some((step, copy(&error)));
            Came::Not(error)
        }
        None => Came::Went(Flow::Next(None)),
    }
}

fn copy(error: &StepError) -> StepError {
    match error {
        StepError::Failure(failure) => StepError::Failure(failure.clone()),
        StepError::Exception(exception) => {
            StepError::Exception(Exception::new(exception.kind.clone(), error.line()))
        }
    }
}
