//! Building a pipeline: steps in a line, checked before anything runs.

use super::text::is_name;
use crate::{
    error::{Error, ErrorKind, Result},
    retry::Retry,
    step::Step,
};
use std::sync::Arc;

/// A step as a pipeline holds it: its name, the work, and how often that is tried.
#[derive(Clone, Debug)]
pub struct StepDef {
    pub(super) name: Arc<str>,
    pub(super) step: Arc<dyn Step>,
    pub(super) retry: Option<Retry>,
}

impl StepDef {
    /// Names a step; it runs once unless [`StepDef::retry`] says otherwise.
    pub fn new(name: impl Into<Arc<str>>, step: Arc<dyn Step>) -> Self {
        Self { name: name.into(), step, retry: None }
    }

    /// Sets how often an exception is tried again; a failure never is.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Returns the step's name, under which its value is stored.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Steps and the flow between them: one after another, until one does not succeed.
///
/// A clone is cheap and means the same pipeline; runs share nothing but the steps.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub(super) name: Arc<str>,
    pub(super) steps: Arc<[StepDef]>,
}

impl Pipeline {
    /// Starts a pipeline; [`PipelineBuilder::build`] ends it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder { name: name.into(), steps: Vec::new() }
    }

    /// Returns the pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the steps in their order.
    #[must_use]
    pub fn steps(&self) -> &[StepDef] {
        &self.steps
    }
}

/// A pipeline in the making.
#[derive(Clone, Debug)]
#[must_use = "a pipeline in the making does nothing"]
pub struct PipelineBuilder {
    name: Arc<str>,
    steps: Vec<StepDef>,
}

impl PipelineBuilder {
    /// Adds a step after those before it.
    pub fn step(mut self, step: StepDef) -> Self {
        self.steps.push(step);
        self
    }

    /// Ends the pipeline.
    ///
    /// # Errors
    /// Returns a config error if there is no step, if a step's name comes twice, or if a name is
    /// not made of ASCII letters, digits, `_` and `-`, a letter or `_` first.
    pub fn build(self) -> Result<Pipeline> {
        let refuse = |why: String, hint: &str| {
            let error = Error::new(ErrorKind::Config, "pipeline", why);
            Err(error.with("pipeline", self.name.escape_debug()).hint(hint))
        };
        if self.steps.is_empty() {
            return refuse("a pipeline needs a step".into(), "add one with .step(..)");
        }
        let names = || self.steps.iter().map(|step| &*step.name);
        if let Some(name) = std::iter::once(&*self.name).chain(names()).find(|n| !is_name(n)) {
            let why = format!("`{}` is not a name", name.escape_debug());
            return refuse(why, "use ASCII letters, digits, `_` and `-`, a letter or `_` first");
        }
        let twice = names().enumerate().find(|(i, name)| names().take(*i).any(|n| n == *name));
        if let Some((_, name)) = twice {
            let why = format!("step `{name}` comes twice");
            return refuse(why, "its value goes by its name; give one of the two another");
        }
        Ok(Pipeline { name: self.name, steps: self.steps.into() })
    }
}
