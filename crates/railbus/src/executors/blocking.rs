//! Steps that block, on the runtime's threads for such work.

use crate::{
    executor::{Carried, Executor, Task},
    step::{Exception, StepError, StepResult},
    task,
};
use async_trait::async_trait;

/// Runs a step on one of the runtime's threads for blocking work, so that it stops nothing else.
///
/// A sync step may block in any way, also on a runtime of its own or on this one. Needs a tokio
/// runtime. Once such a step has begun, nothing can stop it.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, executors::Blocking, store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let slow = StepDef::value("sum", |_| (1..=100).sum::<u64>()).executor(Blocking);
/// let report = Pipeline::new("sums").step(slow).build()?.run(store! {}).await;
/// assert_eq!(*report.get::<u64>("sum")?, 5050);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocking;

#[async_trait]
impl Executor for Blocking {
    async fn execute(&self, task: Task) -> StepResult {
        let no_runtime = |e| StepError::Exception(Exception::new("unsupported", e));
        let runtime = task::runtime("execute").map_err(no_runtime)?;
        let carried = Carried::here();
        let work = move || carried.run(|| task.block(Some(&runtime)));
        let running = tokio::task::spawn_blocking(work);
        running.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(StepError::Exception(Exception::new("cancelled", error))),
        })
    }
}
