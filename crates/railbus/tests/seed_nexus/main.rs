//! What the nexus document says and its code does, where it is right: `docs/differences.md` lists
//! each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod flow;
mod text;
mod tries;

use railbus::{Failure, Pipeline, PipelineBuilder, RunReport, StepDef, Steps};

/// A step that leaves its own name.
fn says(name: &str) -> StepDef {
    let value = name.to_owned();
    StepDef::value(name, move |_| value.clone()).leaves::<String>()
}

/// A step that says no.
fn fails(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err(Failure::new("no").into()))
}

/// A step that an exception befalls.
fn throws(name: &str) -> StepDef {
    StepDef::fallible(name, |_| Err("broken".into()))
}

/// The pipeline of a flow.
fn flow(text: &str, steps: &Steps) -> PipelineBuilder {
    Pipeline::new("p").steps(steps.clone()).flow(text)
}

/// The steps that ran, in order.
fn path(report: &RunReport) -> String {
    report.path().collect::<Vec<_>>().join(" ")
}

/// Why a pipeline is not built.
fn refused(builder: PipelineBuilder) -> String {
    builder.build().unwrap_err().to_string()
}
