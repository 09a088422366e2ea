//! The app: a program in one TOML file, read, checked, resolved and run.

mod problem;
mod work;
mod table;
mod values;
mod layers;
mod spec;
mod bus;
#[cfg(feature = "webhook")]
mod hooks;
mod inputs;
mod commands;
#[cfg(feature = "http")]
mod posts;
mod steps;
mod make;
mod pipelines;
#[cfg(feature = "webhook")]
mod outs;
mod subscriptions;
mod fit;
mod file;
mod summary;
mod doubt;
mod program;

pub use layers::{DedupSpec, LayersSpec, LogSpec, RateSpec};
pub use problem::{LoadError, Place, Problem, Problems};
pub use program::{App, Ended, Progress};
pub use spec::{
    AppSpec, EachSpec, InputSpec, NdjsonSpec, PipelineSpec, ScheduleSpec, StepSpec,
    SubscriptionSpec,
};
#[cfg(feature = "webhook")]
pub use spec::{EndpointSpec, HttpSpec};
pub use summary::Summary;
#[cfg(feature = "http")]
pub use work::PostSpec;
pub use work::{CommandSpec, ProcessesSpec, WorkSpec};
