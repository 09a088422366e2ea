//! Pipelines: steps, the flow between them, and the report of a run.

pub mod text;
pub mod report;
pub mod build;
pub mod run;

pub use build::{Pipeline, PipelineBuilder, StepDef};
pub use report::{RunError, RunReport, Status, StepReport, StepStatus};
