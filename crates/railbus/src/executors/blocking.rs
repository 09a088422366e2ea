//! Steps that block, on the runtime's threads for such work.

use crate::{
    executor::{Executor, Task},
    step::{Exception, StepError, StepResult},
    task,
};
use async_trait::async_trait;

/// Runs a step on one of the runtime's threads for blocking work, so that it stops nothing else.
///
/// Needs a tokio runtime. Once such a step has begun, nothing can stop it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocking;

#[async_trait]
impl Executor for Blocking {
    async fn execute(&self, task: Task) -> StepResult {
        let no_runtime = |e| StepError::Exception(Exception::new("unsupported", e));
        let runtime = task::runtime("execute").map_err(no_runtime)?;
        let running = tokio::task::spawn_blocking(move || runtime.block_on(task.run()));
        running.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(StepError::Exception(Exception::new("cancelled", error))),
        })
    }
}
