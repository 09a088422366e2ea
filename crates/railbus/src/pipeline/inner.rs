//! Steps with steps of their own: a nested pipeline, one that repeats.

use super::{
    lane::Going,
    once::{Along, Around, Came, One, panicked},
    parts::{Asks, Body, How, Limits, Pipeline, Repeat, Sub, Work},
    report::{Inside, RunReport},
};
use crate::{
    step::{Exception, Flow, StepError, StepResult, Store},
    task,
};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// After how many items or times others get their turn.
pub(super) const BREATH: u64 = 64;

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
            let came = inner.go(self, how, around, along).await;
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
    pub(super) fn given(&self, pipeline: &Pipeline, around: Around<'_>) -> Store {
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
pub(super) struct Inner<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) going: Going<'a>,
    pub(super) limits: &'a Limits,
    pub(super) name: &'a str,
}

impl Inner<'_> {
    // Futures of steps within steps are made apart from where they are awaited: else each of them has
    // room on the stack of all that are around it.
    fn go<'s>(
        &'s self,
        one: &'s One<'_>,
        how: &'s How,
        around: Around<'s>,
        along: &'s mut Along,
    ) -> BoxFuture<'s, Came> {
        match how {
            How::Nested => Box::pin(self.nested(one, around, along)),
            How::Each(each) => Box::pin(self.each(one, each, around, along)),
            How::Repeat(repeat) => Box::pin(self.repeat(one, repeat, around, along)),
        }
    }

    /// Runs the pipeline once.
    pub(super) fn run(&self, store: Store, time: Time) -> BoxFuture<'_, RunReport> {
        let Going { cause, log, .. } = self.going;
        let (plan, limits) = (&*self.pipeline.0, self.limits);
        let going = Going { plan, cause, limits, watch: None, log, prefix: "" };
        let store = Arc::new(store);
        if log.is_none() {
            return Box::pin(self.pipeline.go(store, going));
        }
        Box::pin(async move {
            let prefix = format!("{}{}{time}/", self.going.prefix, self.name);
            self.pipeline.go(store, Going { prefix: &prefix, ..going }).await
        })
    }

    async fn nested(&self, one: &One<'_>, around: Around<'_>, along: &mut Along) -> Came {
        let mut report = self.run(one.given(self.pipeline, around), Time::Only).await;
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
            // Also by the last of its steps, of which a status says nothing.
            let is_over = report.stopped.is_some();
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
            catch_unwind(AssertUnwindSafe(asked)).unwrap_or_else(|panic| Err(panicked(panic)))
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
}

/// Which time a step's own steps run, as the journal tells it.
pub(super) enum Time {
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

/// Returns what a step came to whose steps ran so. The error is taken out of the report; its steps
/// still tell of it.
pub(super) fn came(report: &mut RunReport) -> Came {
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
