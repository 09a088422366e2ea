//! What a pipeline says of itself.

use super::parts::Pipeline;
use std::fmt;

impl Pipeline {
    /// Returns the pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of the steps, in the order they are written.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.nodes.iter().filter(|node| node.is_named()).map(|node| node.def.name())
    }

    /// Forgets what steps that run [once](super::StepDef::once) left, those of pipelines in it too: the
    /// next run does them again.
    pub fn refit(&self) {
        self.0.nodes.iter().for_each(|node| node.def.refit());
    }

    /// Returns the names of the values that a run must be given.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.0.wanted.inputs.iter().map(|given| given.name.as_str())
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({}: {})", self.name(), self.steps().collect::<Vec<_>>().join(" -> "))
    }
}
