//! What a step repeats or does for each item, built as a pipeline of its own.

use super::{
    check::{Checked, check},
    compile::compile,
    parts::{Pipeline, Plan, StepDef},
};
use crate::{error::Result, state::States};
use std::sync::{Arc, OnceLock};

/// What holds in a pipeline and in what its steps repeat or do for each item.
#[derive(Clone, Copy)]
pub(super) struct Inherited<'a> {
    pub(super) states: &'a Arc<States>,
    pub(super) lenient: bool,
    pub(super) visits_max: u32,
}

impl Inherited<'_> {
    /// Builds the steps of a step that has values of its own. Nobody observes them: their step is.
    ///
    /// # Errors
    /// As [`PipelineBuilder::build`](super::PipelineBuilder::build).
    pub(super) fn build(self, name: &Arc<str>, body: StepDef) -> Result<Pipeline> {
        let Self { states, lenient, visits_max } = self;
        let builds = |outer: &StepDef, inner: StepDef| self.build(&outer.name, inner);
        let depth = body.depth;
        let mut nodes = compile(vec![body], &builds)?;
        let Checked { wanted, leaves } = check(name, &mut nodes, Vec::new(), states, lenient)?;
        let (name, states) = (Arc::clone(name), Arc::clone(states));
        Ok(Pipeline(Arc::new(Plan {
            name,
            nodes,
            depth,
            wanted,
            leaves,
            states,
            lenient,
            timeout: None,
            visits_max,
            observer: None,
            journal: None,
            lease: None,
            shape: OnceLock::new(),
        })))
    }
}
