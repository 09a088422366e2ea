//! Steps where the pipeline runs.

use crate::{
    error::Result,
    executor::{Executor, IntoExecutor},
};
use std::sync::Arc;

/// Runs a step in the task that runs the pipeline, as one without an executor does.
///
/// # Examples
/// ```
/// use railbus::{StepDef, executors::{Blocking, Inline}};
///
/// let step = StepDef::value("seven", |_| 7).executor(Blocking);
/// let inline = step.executor(Inline); // overrules what was said before
/// # drop(inline);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl IntoExecutor for Inline {
    fn into_executor(self) -> Result<Option<Arc<dyn Executor>>> {
        Ok(None)
    }
}
