//! Where a run goes after a step.

use crate::payload::RawPayload;
use serde::Serialize;
use std::any::TypeId;

/// Where a run goes after a step that did not fail: a value, never an error, so nothing retries it.
///
/// A jump to a step that was not declared, and a branch that is not there, are exceptions of kind
/// `flow`.
///
/// # Examples
/// ```
/// use railbus::{Flow, step::{Branch, Goto}};
///
/// let jump: Goto = Flow::goto("manual_review", 7).reason("too large").failed();
/// assert_eq!((&*jump.to, &*jump.reason, jump.failed), ("manual_review", "too large", true));
/// assert!(matches!(jump.into(), Flow::Goto(_)));
/// let chosen = Flow::branch("premium", "C-7");
/// assert!(matches!(chosen, Flow::Branch(Branch { ref label, .. }) if label == "premium"));
/// assert!(matches!(Flow::stop("nothing to do"), Flow::Stop(Some(_))));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Flow {
    /// To the next step, with the step's value, if it has one.
    Next(Option<RawPayload>),
    /// To the step of that name, and on from its place.
    Goto(Goto),
    /// Along the branch of that label.
    Branch(Branch),
    /// Nowhere: the run ends here, well. In a pipeline inside another one that one ends alone, and so
    /// does what is done for an item; a repetition ends with it.
    Stop(Option<RawPayload>),
    /// To the next step, as if this one had not run.
    Skip,
}

/// A jump to another step.
#[derive(Clone, Debug, PartialEq)]
pub struct Goto {
    /// The name of the step to go to.
    pub to: String,
    /// What is passed on to it.
    pub value: RawPayload,
    /// Why (default `manual`).
    pub reason: String,
    /// Whether the step that jumps counts as failed.
    pub failed: bool,
}

/// A choice among the branches of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The label of the branch.
    pub label: String,
    /// The step's value.
    pub value: RawPayload,
}

impl Flow {
    /// Goes to the next step with a value.
    pub fn next<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self::Next(Some(RawPayload::of(value)))
    }

    /// Returns the value it carries.
    pub(crate) fn value(&self) -> Option<&RawPayload> {
        match self {
            Self::Next(value) | Self::Stop(value) => value.as_ref(),
            Self::Goto(goto) => Some(&goto.value),
            Self::Branch(branch) => Some(&branch.value),
            Self::Skip => None,
        }
    }

    /// Ends the run here, well, with a value.
    pub fn stop<T: Serialize + Send + Sync + 'static>(value: T) -> Self {
        Self::Stop(Some(RawPayload::of(value)))
    }

    /// Jumps to a step, which must be among the targets that the step declares. The value is the
    /// step's own, and is bound to the target's first input as `|->` does.
    pub fn goto<T: Serialize + Send + Sync + 'static>(to: impl Into<String>, value: T) -> Goto {
        let value = RawPayload::of(value);
        Goto { to: to.into(), value, reason: "manual".into(), failed: false }
    }

    /// Takes the branch of that label, with the step's value.
    pub fn branch<T: Serialize + Send + Sync + 'static>(
        label: impl Into<String>,
        value: T,
    ) -> Self {
        Self::Branch(Branch { label: label.into(), value: RawPayload::of(value) })
    }
}

impl Goto {
    /// Says why.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Says that the step failed, and jumps all the same.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.failed = true;
        self
    }
}

impl From<Goto> for Flow {
    fn from(goto: Goto) -> Self {
        Self::Goto(goto)
    }
}

/// What a step may return, alone or in a `Result`: any value that can be stored, a [`Flow`], or
/// nothing.
///
/// # Examples
/// ```
/// use railbus::{Flow, step::IntoFlow};
///
/// assert_eq!(7.into_flow(), Flow::next(7));
/// assert_eq!(().into_flow(), Flow::Next(None));
/// assert_eq!(Flow::Skip.into_flow(), Flow::Skip);
/// ```
#[diagnostic::on_unimplemented(
    message = "a step can't return `{Self}`",
    note = "return a value that is Serialize, a Flow, nothing, or a Result of one",
    note = "wrap a value that is not Serialize: Opaque(value)"
)]
pub trait IntoFlow<Marker> {
    /// Turns it into where the run goes.
    fn into_flow(self) -> Flow;
}

/// Marks plain values.
#[derive(Debug)]
pub struct IsValue;
/// Marks flows and jumps.
#[derive(Debug)]
pub struct IsFlow;

impl<T: Serialize + Send + Sync + 'static> IntoFlow<IsValue> for T {
    fn into_flow(self) -> Flow {
        match TypeId::of::<T>() == TypeId::of::<()>() {
            true => Flow::Next(None),
            false => Flow::next(self),
        }
    }
}

impl IntoFlow<IsFlow> for Flow {
    fn into_flow(self) -> Flow {
        self
    }
}

impl IntoFlow<IsFlow> for Goto {
    fn into_flow(self) -> Flow {
        self.into()
    }
}
