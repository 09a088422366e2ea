//! The app file: a program in one TOML file, read, checked and resolved.

mod problem;
mod spec;
mod table;
mod values;
mod bus;
mod inputs;
mod steps;
mod pipelines;
mod subscriptions;
mod file;

pub use problem::{LoadError, Place, Problem, Problems};
pub use spec::{
    AppSpec, InputSpec, IntervalSpec, NdjsonSpec, PipelineSpec, StepSpec, SubscriptionSpec,
};
