//! Pipelines: steps, the flow between them, and what a run came to.

pub mod text;
mod report;
mod def;
mod steps;
mod check;
mod observe;
mod build;
mod one;
mod run;
mod handle;

pub use build::{Pipeline, PipelineBuilder};
pub use def::{IntoStep, IsDef, IsMaker, IsStep, StepDef};
pub use handle::IsPipeline;
pub use report::{RunError, RunReport, Status, StepReport, StepStatus, StopReason};
pub use steps::Steps;
