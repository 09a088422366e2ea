//! Telling of one step: that it starts, is tried again, and what became of it.

use super::{
    lane::Lane,
    observe::{Tale, Told, Watch},
    once::{Around, Came, One},
    report::{Inside, Visit, Went},
};
use crate::{
    error::chain,
    step::{Bindings, Exception, Flow, StepError},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

impl One<'_> {
    /// Tells that it starts.
    pub(super) async fn starts(&self, lane: &Lane, bindings: &Arc<Bindings>) -> Instant {
        if let Some(observer) = self.going.heard(Tale::StepStart) {
            let input = self.input(Around { store: &lane.store, bindings, step_try: 1 });
            observer.step_started(self.index, &input, self.def().signature.all_needs()).await;
        }
        Instant::now()
    }

    /// Tells what became of the step.
    pub(super) async fn tell_ended(
        &self,
        observer: Watch<'_>,
        lane: &Lane,
        came: &Came,
        (attempt, duration): (u32, Duration),
    ) {
        let error = match came {
            Came::Went(Flow::Skip) => return observer.step_skipped(self.index, "asked").await,
            Came::Not(error) => Some(error),
            _ => None,
        };
        let (index, status) = (self.index, came.status().name());
        let (items, went) = match lane.trail.last() {
            Some(Visit { inside: Inside::Items(items), went, .. }) => (Some(&**items), went),
            Some(Visit { went, .. }) => (None, went),
            None => (None, &Went::On),
        };
        let goto = match went {
            Went::Goto(jump) => Some((&*jump.to, jump.reason.as_str())),
            _ => None,
        };
        let branch = went.label().map(|label| &**label);
        let items = items.map(|items| (items.succeeded, items.failed));
        let told = Told { index, attempt, duration, status, error, goto, branch, items };
        observer.step_ended(told, &lane.store, &self.def().output).await;
    }

    /// Tells that the step is tried again.
    pub(super) async fn tell_again(
        &self,
        came: &Came,
        step_try: u32,
        duration: Duration,
        wait: Duration,
    ) {
        let Came::Not(error) = came else { return };
        let (pipeline, step) = (&*self.going.plan.name, self.def().name());
        if let StepError::Exception(Exception { kind, error }) = error {
            // As text, since the error is the program's: its Display may panic.
            let reason = || chain(&**error);
            tracing::warn!(
                pipeline,
                step,
                step_try,
                kind,
                error = reason(),
                ?wait,
                "a step is tried again"
            );
        }
        if let Some(observer) = self.going.heard(Tale::StepRetry) {
            let (index, status) = (self.index, "exception");
            let (error, goto, branch, items) = (Some(error), None, None, None);
            let told =
                Told { index, attempt: step_try, duration, status, error, goto, branch, items };
            observer.step_retried(told, wait).await;
        }
    }
}
