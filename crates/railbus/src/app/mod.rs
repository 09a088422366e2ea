//! The app: a program in one TOML file, read, checked, resolved and run.

mod problem;
mod spec;
mod table;
mod values;
mod bus;
mod inputs;
mod steps;
mod pipelines;
mod subscriptions;
mod fit;
mod file;
mod summary;
mod program;

pub use problem::{LoadError, Place, Problem, Problems};
pub use program::{App, Ended, Progress};
pub use spec::{
    AppSpec, InputSpec, NdjsonSpec, PipelineSpec, ScheduleSpec, StepSpec, SubscriptionSpec,
};
pub use summary::Summary;
