//! Running a pipeline.

use super::{
    build::{Pipeline, StepDef},
    report::{RunReport, StepReport, StepStatus},
};
use crate::{
    event::Event,
    step::{Exception, Input, StepError, StepResult, Store},
};
use futures_util::FutureExt;
use serde_json::Value;
use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};
use tokio::time::{Instant, sleep};

impl Pipeline {
    /// Runs the steps for `event`, of whose deliveries this is number `attempt`, from 1.
    ///
    /// A value is stored under its step's name, for the steps after it. The first step that says
    /// no ends the run, and so does the first whose exception outlasts its tries. A panic is an
    /// exception of kind `panic`. Needs a tokio runtime with time where a step has a retry.
    ///
    /// # Cancel safety
    /// A run that is dropped drops the step it is at, and leaves no report.
    pub async fn run(&self, event: &Event, attempt: u32) -> RunReport {
        let mut report = RunReport {
            pipeline: Arc::clone(&self.name),
            steps: self.steps.iter().map(|def| StepReport::not_run(&def.name)).collect(),
            store: Store::default(),
            ended: None,
        };
        for (def, line) in self.steps.iter().zip(&mut report.steps) {
            let input = Input { event, store: &report.store, attempt, step_try: 1 };
            match run_step(&self.name, def, input, line).await {
                Ok(Some(value)) => report.store.set(&*def.name, value),
                Ok(None) => {}
                Err(error) => {
                    report.ended = Some((Arc::clone(&def.name), error));
                    break;
                }
            }
        }
        report
    }
}

/// Runs one step as often as its policy allows, and notes what it came to.
async fn run_step(
    pipeline: &str,
    def: &StepDef,
    mut input: Input<'_>,
    line: &mut StepReport,
) -> Result<Option<Value>, StepError> {
    let start = Instant::now();
    let result = loop {
        let result = run_once(def, input).await;
        let Err(StepError::Exception(exception)) = &result else { break result };
        let wait = def.retry.as_ref().and_then(|retry| retry.wait_after(input.step_try));
        let Some(wait) = wait else { break result };
        let (step, kind, step_try) = (def.name(), &exception.kind, input.step_try);
        let error = &exception.error;
        tracing::warn!(pipeline, step, step_try, kind, error, ?wait, "a step is tried again");
        sleep(wait).await;
        input.step_try += 1;
    };
    line.tries = input.step_try;
    line.duration = start.elapsed();
    (line.status, line.error) = match &result {
        Ok(_) => (StepStatus::Success, None),
        Err(e @ StepError::Failure(_)) => (StepStatus::Failure, Some(e.line())),
        Err(e @ StepError::Exception(x)) => {
            (StepStatus::Exception, Some(format!("{}: {}", x.kind, e.line())))
        }
    };
    result
}

/// Runs a step once; a panic stays inside.
async fn run_once(def: &StepDef, input: Input<'_>) -> StepResult {
    // The step itself sees to what a panic leaves behind; the run uses nothing of it afterwards.
    let run = AssertUnwindSafe(async { def.step.run(input).await });
    match run.catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(StepError::Exception(Exception::new("panic", message(&*panic)))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}
