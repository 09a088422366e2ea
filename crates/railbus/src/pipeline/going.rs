//! A pipeline under way, from its first step to its report.

use super::{
    lane::{Going, Lane, given_up},
    log::Log,
    observe::Tale,
    once::panicked,
    parts::Pipeline,
    report::RunReport,
};
use crate::{
    error::{Error, ErrorKind},
    step::{Exception, StepError, Store},
};
use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    thread,
};
use tokio::time::Instant;

impl Pipeline {
    /// Runs the steps, and tells of it.
    pub(super) async fn go(&self, store: Arc<Store>, going: Going<'_>) -> RunReport {
        let plan = &*self.0;
        let until;
        let limits = match plan.timeout {
            None => going.limits,
            limit => {
                until = going.limits.until(limit);
                &until
            }
        };
        let mut lane = Lane::new(store, plan.nodes.len());
        let observed = plan.observer.as_ref().and_then(|o| Some((o, o.bus()?)));
        let watch = observed.as_ref().map(|(observer, bus)| observer.watch(bus));
        let going = Going { limits, watch, ..going };
        let start = watch.map(|_| Instant::now());
        if let Some(watch) = going.heard(Tale::Start) {
            watch.started().await;
        }
        self.follow(going, &mut lane).await;
        let report = self.report(lane);
        let error = report.failed.as_ref().map(|(step, error)| (step.as_deref(), error));
        let tale = if error.is_some() { Tale::Error } else { Tale::End };
        if let (Some(watch), Some(start)) = (going.heard(tale), start) {
            watch.ended(report.status().name(), start.elapsed(), error).await;
        }
        report
    }

    async fn follow(&self, going: Going<'_>, lane: &mut Lane) {
        match self.missing(lane) {
            Some(error) => lane.failed = Some((None, error)),
            None => {
                if let Err(panic) = self.guarded(going, lane).await {
                    lane.fail(None, panicked(panic));
                }
            }
        }
        if let Some(error) = going.log.and_then(Log::broken) {
            let error = StepError::Exception(Exception::new("journal", error));
            (lane.failed, lane.cancelled) = (Some((None, error)), None);
        } else if let Some((step, reason)) = &lane.cancelled {
            lane.failed = Some((step.clone(), given_up(*reason)));
        }
    }

    /// Follows the flow. Steps see to their own panics: what is left is what values do as they are
    /// dropped or encoded, which no step is to blame for.
    async fn guarded(&self, going: Going<'_>, lane: &mut Lane) -> thread::Result<()> {
        let mut going = pin!(going.follow(lane, 0));
        let poll =
            |cx: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| going.as_mut().poll(cx)))
            {
                Ok(polled) => polled.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            };
        poll_fn(poll).await
    }

    /// Tells of a value that must be given and was not.
    fn missing(&self, lane: &Lane) -> Option<StepError> {
        let given = self.0.wanted.inputs.iter().find(|given| !lane.store.has(&given.name))?;
        let why = format!("the input `{}` is missing", given.name);
        let error = Error::new(ErrorKind::NotFound, "pipeline", why).with("pipeline", &self.0.name);
        let error = error.hint("give it to run(..), or as the event's payload");
        Some(StepError::Exception(Exception::new("input", error)))
    }

    fn report(&self, lane: Lane) -> RunReport {
        let Lane { store, trail, failed, stopped, cancelled, last, .. } = lane;
        let (plan, steps) = (Arc::clone(&self.0), OnceLock::new());
        let (id, is_called_off) = (None, false);
        RunReport { plan, trail, steps, store, failed, stopped, cancelled, last, id, is_called_off }
    }

    /// Returns the report of a run that could not begin.
    pub(super) fn not_begun(&self, error: Error) -> RunReport {
        let mut lane = Lane::new(Arc::default(), 0);
        lane.failed = Some((None, StepError::Exception(Exception::new("journal", error))));
        self.report(lane)
    }
}
