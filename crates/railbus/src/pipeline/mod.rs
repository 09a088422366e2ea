//! Pipelines: steps, the flow between them, and what a run came to.

mod evaluate;
pub mod text;
mod report;
mod def;
mod check;
mod observe;
mod build;
mod one;
mod run;
mod handle;

pub use build::{Pipeline, PipelineBuilder};
pub use def::{IntoStep, IsDef, IsMaker, IsStep, StepDef};
pub use evaluate::Evaluation;
pub use handle::IsPipeline;
pub use report::{RunError, RunReport, Status, StepReport, StepStatus, StopReason};
