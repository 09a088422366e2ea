//! What runs and steps come to, as values.

use std::fmt;

/// What a run came to.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Every step the flow led to succeeded.
    Success,
    /// A step said no.
    Failure,
    /// An error befell a step, on its last try.
    Exception,
    /// A step ended the run, well: by its success before the last step, or because it said so, by
    /// [`Flow::Stop`](crate::Flow::Stop).
    Stopped,
    /// It was given up, by a [`Cancel`](crate::Cancel) or by its limit of time. A run that is dropped
    /// leaves no report.
    Cancelled,
}

impl Status {
    /// Returns the status in lower case, as logs and JSON show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Exception => "exception",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What became of a step in a run.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepStatus {
    /// It succeeded, perhaps not on its first try.
    Success,
    /// It said no.
    Failure,
    /// An error befell it, on its last try.
    Exception,
    /// It had nothing to do: what came was passed on.
    Skipped,
    /// It was given up while it ran.
    Cancelled,
    /// The run did not come to it.
    NotRun,
}

impl StepStatus {
    /// Returns the status in lower case, as logs and JSON show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Exception => "exception",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::NotRun => "not_run",
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a run ended before its last step, or with it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// A step succeeded whose success ends the run.
    Success,
    /// A step said no.
    Failure,
    /// An error befell a step.
    Exception,
    /// A step said that the run is to end, by [`Flow::Stop`](crate::step::Flow::Stop).
    Asked,
}

/// Why a run was given up.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// The program said so, by a [`Cancel`](crate::Cancel).
    Asked,
    /// It took longer than it may.
    Timeout,
}

impl CancelReason {
    /// Returns the reason in lower case, as logs and JSON show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asked => "cancelled",
            Self::Timeout => "timeout",
        }
    }

    /// Reads what [`CancelReason::name`] writes; whatever else ended a run, someone asked for it.
    pub(super) fn of(name: &str) -> Self {
        if name == Self::Timeout.name() { Self::Timeout } else { Self::Asked }
    }
}
