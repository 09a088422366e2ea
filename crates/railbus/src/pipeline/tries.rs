//! The tries of a step.

use super::{
    lane::Cut,
    once::{Along, Around, Came, One},
    parts::Work,
};
use crate::{
    error::Error,
    retry::Retry,
    step::{Bindings, Exception, StepError, Store},
    task,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::time::Instant;

impl One<'_> {
    /// Tries the step until it does not end in an exception that is tried again.
    pub(super) async fn tries(
        &self,
        store: &Arc<Store>,
        bindings: &Arc<Bindings>,
        mut start: Instant,
        along: &mut Along,
    ) -> (Came, u32) {
        let def = self.def();
        let mut step_try = 1;
        loop {
            let around = Around { store, bindings, step_try };
            let came = self.once(around, along).await;
            let Came::Not(StepError::Exception(exception)) = &came else { return (came, step_try) };
            let Exception { kind, error } = exception;
            // The policy may ask a closure of the program's, which may panic.
            let covers = |retry: &&Retry| {
                let covered = catch_unwind(AssertUnwindSafe(|| retry.covers(kind, &**error)));
                covered.map_err(task::let_go).unwrap_or(false)
            };
            let retry = def.retry.as_ref().filter(covers).filter(|_| !self.is_used_up(around));
            let wait = retry.and_then(|retry| retry.wait_after(step_try));
            let wait = match (self.going.log, &def.work) {
                // What its steps came to is recorded, and so must be that they run again.
                (Some(log), Work::Sub(_)) if def.retry.is_some() => self.tries_again(log, wait),
                _ => wait,
            };
            let Some(wait) = wait else { return (came, step_try) };
            let waiting = match task::sleep("retry", wait) {
                Ok(waiting) => waiting,
                Err(no) => return (Came::Not(not_again(no, came)), step_try),
            };
            self.tell_again(&came, step_try, start.elapsed(), wait).await;
            match self.going.limits.bound(None, waiting).await {
                Ok(()) => (step_try, start) = (step_try + 1, Instant::now()),
                Err(Cut::Run(reason)) => return (Came::Cut(reason), step_try),
                Err(_) => return (came, step_try),
            }
        }
    }
}

/// Returns the exception that a step ends with which can't be tried again, although it may.
fn not_again(why: Error, came: Came) -> StepError {
    let last = match came {
        Came::Not(StepError::Exception(exception)) => why.because(exception.error),
        _ => why,
    };
    StepError::Exception(Exception::new("unsupported", last))
}
