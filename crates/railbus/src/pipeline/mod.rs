//! Pipelines: steps, the flow between them, and what a run came to.

mod evaluate;
pub mod text;
mod status;
mod observe;
mod parts;
mod def;
mod into;
mod groups;
mod compile;
mod names;
mod ways;
mod joints;
mod check;
mod report;
mod verdict;
mod build;
mod lane;
mod once;
mod one;
mod follow;
mod inner;
mod run;
mod handle;

pub use build::PipelineBuilder;
pub use evaluate::Evaluation;
pub use groups::{ForEach, IsGroup, Parallel, Repeated, chain, each, parallel, repeat};
pub use handle::IsPipeline;
pub use into::{IntoStep, IntoSteps, IsDef, IsMaker, IsNested, IsStep};
pub use parts::{Pipeline, StepDef};
pub use report::{ItemsReport, Jump, RunReport, StepReport};
pub use run::Run;
pub use status::{CancelReason, Status, StepStatus, StopReason};
pub use verdict::RunError;
