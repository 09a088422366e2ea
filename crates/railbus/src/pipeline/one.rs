//! Running one step of a pipeline: its tries, its value, and telling of it.

use super::{
    build::Plan,
    def::StepDef,
    observe::Told,
    report::{StepReport, StepStatus, said},
};
use crate::{
    cancel::Cancel,
    context,
    error::{Error, chain},
    event::Event,
    executor::Task,
    retry::Retry,
    step::{Bypass, Exception, Flow, Input, Ran, StepError, StepResult, Store},
    task,
};
use futures_util::FutureExt;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// What a step came to, after all its tries.
pub(super) type Came = StepResult;

/// What a run is for.
#[derive(Clone, Copy)]
pub(super) struct Cause<'a> {
    pub(super) event: Option<&'a Event>,
    pub(super) attempt: u32,
}

/// One step of a run.
pub(super) struct One<'a> {
    pub(super) plan: &'a Plan,
    pub(super) index: usize,
    pub(super) cause: Cause<'a>,
}

impl One<'_> {
    fn def(&self) -> &StepDef {
        &self.plan.nodes[self.index].def
    }

    fn input<'s>(&'s self, store: &'s Store, step_try: u32) -> Input<'s> {
        let Cause { event, attempt } = self.cause;
        let (bindings, states) = (&*self.def().bindings, &*self.plan.states);
        Input { event, store, bindings, states, attempt, step_try, cancel: None }
    }

    /// Runs the step as often as its policy allows, keeps its value, and notes what it came to.
    pub(super) async fn run(self, store: &mut Arc<Store>, line: &mut StepReport) -> Came {
        let observer = self.plan.observer.as_ref();
        let asked = self.can_bypass(store);
        if let Ok(Bypass::Pass | Bypass::With(_)) = asked {
            self.pass_on(asked, store);
            line.ends(0, Duration::ZERO, StepStatus::Skipped);
            if let Some(observer) = observer {
                observer.step_skipped(self.index, "bypassed").await;
            }
            return Ok(Flow::Skip);
        }
        if let Some(observer) = observer {
            let needs = self.def().signature.all_needs();
            observer.step_started(self.index, &self.input(store, 1), needs).await;
        }
        let start = Instant::now();
        let (came, tries) = match asked {
            Ok(_) => self.tries(store).await,
            Err(error) => (Err(error), 0),
        };
        let came = came.and_then(|flow| self.keep(flow, store));
        line.ends(tries, start.elapsed(), StepStatus::of(&came));
        line.error = came.as_ref().err().map(said);
        if let (Some(observer), Ok(Flow::Skip)) = (observer, &came) {
            observer.step_skipped(self.index, "asked").await;
        } else if let Some(observer) = observer {
            let (error, status) = (came.as_ref().err(), line.status.name());
            let (index, duration) = (self.index, line.duration);
            let told = Told { index, attempt: tries, duration, status, error };
            observer.step_ended(told, store, &self.def().output).await;
        }
        came
    }

    /// Asks whether the step is passed by; a panic stays inside.
    fn can_bypass(&self, store: &Store) -> StepResult<Bypass> {
        let (def, input) = (self.def(), self.input(store, 1));
        let asked = || match &def.bypass {
            Some(asks) => asks.ask(&input),
            None => def.step.can_bypass(&input),
        };
        catch_unwind(AssertUnwindSafe(asked)).unwrap_or_else(|panic| panicked(&*panic))
    }

    /// Passes on what the bypass says, or what came to the step if it is one value.
    fn pass_on(&self, asked: StepResult<Bypass>, store: &mut Arc<Store>) {
        let def = self.def();
        let value = match (asked, def.signature.all_needs()) {
            (Ok(Bypass::With(value)), _) => Some(value),
            (_, [need]) => store.value(def.bindings.key(&need.name)).cloned(),
            _ => None,
        };
        if let Some(value) = value {
            Arc::make_mut(store).keep(&def.output, value);
        }
    }

    /// Keeps the value of a step that succeeded.
    fn keep(&self, flow: Flow, store: &mut Arc<Store>) -> Came {
        let unknown = |what: &str| {
            let why = format!("{what}, but this pipeline is a line of steps");
            Err(StepError::Exception(Exception::new("flow", why)))
        };
        match &flow {
            Flow::Next(Some(value)) | Flow::Stop(Some(value)) => {
                Arc::make_mut(store).keep(&self.def().output, value.clone());
            }
            Flow::Goto(goto) => return unknown(&format!("it jumps to `{}`", goto.to)),
            Flow::Branch(branch) => return unknown(&format!("it takes branch `{}`", branch.label)),
            Flow::Next(None) | Flow::Stop(None) | Flow::Skip => {}
        }
        Ok(flow)
    }

    /// Tries the step until it does not end in an exception that is tried again.
    async fn tries(&self, store: &Arc<Store>) -> (Came, u32) {
        let def = self.def();
        let mut step_try = 1;
        loop {
            let start = Instant::now();
            let came = self.once(store, step_try).await;
            let Err(StepError::Exception(exception)) = &came else { return (came, step_try) };
            let Exception { kind, error } = exception;
            // The policy may ask a closure of the program's, which may panic.
            let covers = |retry: &&Retry| {
                catch_unwind(AssertUnwindSafe(|| retry.covers(kind, &**error))).unwrap_or(false)
            };
            let retry = def.retry.as_ref().filter(covers);
            let Some(wait) = retry.and_then(|retry| retry.wait_after(step_try)) else {
                return (came, step_try);
            };
            let waiting = match task::sleep("retry", wait) {
                Ok(waiting) => waiting,
                Err(no) => return (Err(not_again(no, came)), step_try),
            };
            let (pipeline, step) = (&*self.plan.name, def.name());
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
            if let (Some(observer), Err(error)) = (&self.plan.observer, &came) {
                let (index, attempt, duration) = (self.index, step_try, start.elapsed());
                let error = Some(error);
                let told = Told { index, attempt, duration, status: "exception", error };
                observer.step_retried(told, wait).await;
            }
            waiting.await;
            step_try += 1;
        }
    }

    /// Runs the step once; a panic stays inside.
    async fn once(&self, store: &Arc<Store>, step_try: u32) -> Came {
        // The step itself sees to what a panic leaves behind; the run uses nothing of it.
        let ended = match &self.def().executor {
            Some(executor) => {
                let task = self.task(store, step_try);
                let given_up = task.cancel().on_drop();
                // In a future of its own, since it may panic before it returns one.
                let run = AssertUnwindSafe(async { executor.execute(task).await });
                let ended = run.catch_unwind().await;
                given_up.call_off();
                ended
            }
            None => {
                let call = || self.def().step.call(self.input(store, step_try));
                match catch_unwind(AssertUnwindSafe(call)) {
                    Ok(Ran::Now(came)) => Ok(came),
                    Ok(Ran::Later(running)) => AssertUnwindSafe(running).catch_unwind().await,
                    Err(panic) => Err(panic),
                }
            }
        };
        ended.unwrap_or_else(|panic| panicked(&*panic))
    }

    fn task(&self, store: &Arc<Store>, step_try: u32) -> Task {
        let def = self.def();
        Task {
            name: Arc::clone(&def.name),
            step: Arc::clone(&def.step),
            signature: Arc::clone(&def.signature),
            event: self.cause.event.cloned(),
            store: Arc::clone(store),
            bindings: Arc::clone(&def.bindings),
            states: Arc::clone(&self.plan.states),
            attempt: self.cause.attempt,
            step_try,
            context: context::current(),
            cancel: Cancel::new(),
        }
    }
}

/// Returns the exception that a step ends with which can't be tried again, although it may.
fn not_again(why: Error, came: Came) -> StepError {
    let last = match came {
        Err(StepError::Exception(exception)) => why.because(exception.error),
        _ => why,
    };
    StepError::Exception(Exception::new("unsupported", last))
}

/// Makes a panic an exception.
fn panicked<T>(panic: &(dyn Any + Send)) -> StepResult<T> {
    Err(StepError::Exception(Exception::new("panic", message(panic))))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}
