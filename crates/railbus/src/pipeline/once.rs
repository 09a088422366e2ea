//! One try of a step.

use super::{
    lane::{Cut, Going},
    parts::{StepDef, Work},
    report::Inside,
    status::{CancelReason, StepStatus},
};
use crate::{
    cancel::Cancel,
    context,
    error::Error,
    executor::{Executor, Task},
    payload::RawPayload,
    step::{Bindings, Exception, Flow, Input, Ran, Step, StepError, StepResult, Store},
    task,
};
use futures_util::future::BoxFuture;
use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// What a step came to, after all its tries.
pub(super) enum Came {
    /// It succeeded, and says where the run goes.
    Went(Flow),
    /// It was passed by: the run goes on as if it had succeeded.
    Passed,
    /// It was left out, with its branches.
    LeftOut,
    /// It did not succeed.
    Not(StepError),
    /// It was given up.
    Cut(CancelReason),
}

/// One step of a run.
pub(super) struct One<'a> {
    pub(super) going: Going<'a>,
    pub(super) index: usize,
}

/// What a try brings along, beside what it came to.
#[derive(Default)]
pub(super) struct Along {
    pub(super) inside: Option<Inside>,
    // What its own steps left, by their names for it.
    pub(super) left: Vec<(Arc<str>, RawPayload)>,
}

/// What happens around a try: the values, what the step's inputs are bound to, and which one it is.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) store: &'a Arc<Store>,
    pub(super) bindings: &'a Arc<Bindings>,
    pub(super) step_try: u32,
}

impl<'a> One<'a> {
    pub(super) fn def(&self) -> &'a StepDef {
        &self.going.plan.nodes[self.index].def
    }

    pub(super) fn input<'s>(&'s self, around: Around<'s>) -> Input<'s> {
        let Around { store, bindings, step_try } = around;
        let (event, attempt) = (self.going.cause.event, self.going.cause.attempt);
        let (states, cancel) = (&*self.going.plan.states, self.going.limits.cancel.as_ref());
        Input { event, store, bindings, states, attempt, step_try, cancel }
    }

    /// Runs the step once; a panic stays inside.
    pub(super) async fn once(&self, around: Around<'_>, along: &mut Along) -> Came {
        let def = self.def();
        let step = match &def.work {
            Work::Step(step) => step,
            _ => return self.inner(around, along).await,
        };
        let ended = match &def.executor {
            Some(executor) => self.elsewhere(executor, step, around).await,
            None => {
                let call = || step.call(self.input(around));
                let limit = def.timeout.map(|limit| (limit, Instant::now()));
                match catch_unwind(AssertUnwindSafe(call)) {
                    Ok(Ran::Now(came)) => match limit {
                        // Nobody could cut it off, but it is late all the same.
                        Some((limit, begun)) if came.is_ok() && begun.elapsed() > limit => {
                            task::let_go(came);
                            Err(Cut::Step(limit))
                        }
                        _ => Ok(came),
                    },
                    Ok(Ran::Later(running)) => {
                        self.going.limits.bound(def.timeout, Theirs(Some(running))).await
                    }
                    Err(panic) => Ok(Err(panicked(panic))),
                }
            }
        };
        match ended {
            Ok(came) => Came::of(came),
            Err(cut) => cut.into(),
        }
    }

    /// Has an executor run the step once. What it was given is told if nobody waits any more.
    async fn elsewhere(
        &self,
        executor: &Arc<dyn Executor>,
        step: &Arc<dyn Step>,
        around: Around<'_>,
    ) -> Result<StepResult, Cut> {
        let of_run = self.going.limits.cancel.as_ref();
        let cancel = of_run.map_or_else(Cancel::new, Cancel::child);
        let task = Task {
            name: Arc::clone(&self.def().name),
            step: Arc::clone(step),
            signature: Arc::clone(&self.def().signature),
            event: self.going.cause.event.cloned(),
            store: Arc::clone(around.store),
            bindings: Arc::clone(around.bindings),
            states: Arc::clone(&self.going.plan.states),
            attempt: self.going.cause.attempt,
            step_try: around.step_try,
            context: context::current(),
            cancel: cancel.clone(),
        };
        let given_up = cancel.on_drop();
        let running = match catch_unwind(AssertUnwindSafe(|| executor.execute(task))) {
            Ok(running) => Theirs(Some(running)),
            Err(panic) => return Ok(Err(panicked(panic))),
        };
        let ended = self.going.limits.bound(self.def().timeout, running).await?;
        given_up.call_off();
        match of_run.filter(|_| cancel.is_cancelled()) {
            // It was told, be it by itself, and may have ended early, with anything.
            Some(of_run) => {
                of_run.cancel();
                Err(Cut::Run(CancelReason::Asked))
            }
            None => Ok(ended),
        }
    }
}

/// The future of a step or of an executor, which is the program's: it may panic where it is polled,
/// and where it is dropped. What a panic leaves behind is for them to see to; the run uses nothing
/// of it.
struct Theirs<'a>(Option<BoxFuture<'a, StepResult>>);

impl Future for Theirs<'_> {
    type Output = StepResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StepResult> {
        let Some(running) = &mut self.0 else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(panic) => Poll::Ready(Err(panicked(panic))),
        }
    }
}

impl Drop for Theirs<'_> {
    fn drop(&mut self) {
        task::let_go(self.0.take());
    }
}

impl Came {
    pub(super) fn of(came: StepResult) -> Self {
        match came {
            Ok(flow) => Self::Went(flow),
            Err(error) => Self::Not(error),
        }
    }

    pub(super) fn status(&self) -> StepStatus {
        match self {
            Self::Went(Flow::Goto(goto)) if goto.failed => StepStatus::Failure,
            Self::Went(Flow::Skip) | Self::Passed | Self::LeftOut => StepStatus::Skipped,
            Self::Went(_) => StepStatus::Success,
            Self::Not(StepError::Failure(_)) => StepStatus::Failure,
            Self::Not(StepError::Exception(_)) => StepStatus::Exception,
            Self::Cut(_) => StepStatus::Cancelled,
        }
    }
}

impl From<Cut> for Came {
    fn from(cut: Cut) -> Self {
        let exception =
            |kind, error: Error| Self::Not(StepError::Exception(Exception::new(kind, error)));
        match cut {
            Cut::Run(reason) => Self::Cut(reason),
            Cut::Step(limit) => {
                let why = format!("it took longer than {limit:?}");
                Self::Not(StepError::Exception(Exception::new("timeout", why)))
            }
            Cut::NoClock(error) => exception("unsupported", error),
        }
    }
}

/// Makes a panic an exception.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> StepError {
    let exception = Exception::new("panic", message(&*panic));
    task::let_go(panic);
    StepError::Exception(exception)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}
