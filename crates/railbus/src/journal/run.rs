//! A run: as it is begun, as it stands, as it is looked for.

use super::{
    names::{names, unknown},
    record::{Recorded, RunError},
};
use crate::{
    clock::Timestamp,
    error::{Error, Result},
    step::Store,
};
use std::{fmt, str::FromStr, time::Duration};

/// A run to begin.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Its id: the key under which it is one run, however often it is begun.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The graph as text: the same for the same graph, and readable, since a person is shown it
    /// beside another.
    pub shape: String,
    /// The version of the graph, such as a hash of `shape`; shown only (default empty).
    pub version: String,
    /// What the program gave (default nothing). One that is taken over keeps what it began with.
    pub input: Store,
    /// Who runs it: shown only (default `unnamed`).
    pub owner: String,
    /// How long the lease lasts (default 30 s).
    pub lease: Duration,
}

impl NewRun {
    /// Creates a run of a pipeline with a graph.
    pub fn new(
        id: impl Into<String>,
        pipeline: impl Into<String>,
        shape: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            pipeline: pipeline.into(),
            shape: shape.into(),
            version: String::new(),
            input: Store::new(),
            owner: "unnamed".into(),
            lease: Duration::from_secs(30),
        }
    }
}

/// What came of beginning a run.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Begun {
    /// It is new, and the caller's.
    New(RunLease),
    /// It was left, and is the caller's now: [`Journal::load`](super::Journal::load) says what it began with and how far
    /// it came.
    Resumed(RunLease),
    /// Someone runs it: [`RunInfo::lease_left`] says how long their lease still lasts.
    Elsewhere(RunInfo),
    /// It has ended, be it that it was cancelled after it was left.
    Finished(RunInfo),
    /// The run of that id has another graph or is of another pipeline; nothing was changed.
    OtherShape {
        /// The run there is.
        run: RunInfo,
        /// Its graph as text.
        shape: String,
    },
}

/// The right to run a run, until someone takes it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLease {
    /// The run's id.
    pub run: String,
    /// Counts the leases of the run.
    pub fence: u64,
    /// How long it lasts from its latest renewal on.
    pub lease: Duration,
}

/// Whether to go on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a run that goes on although its end was asked for can't be cancelled"]
pub enum Told {
    /// Yes.
    GoOn,
    /// No: someone asked for the end of the run. It is still the caller's to end.
    Cancel,
}

/// How a run ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunEnd {
    /// Every step the flow led to succeeded.
    Success,
    /// A step said no.
    Failure,
    /// An error befell a step.
    Exception,
    /// A step ended it, well.
    Stopped,
    /// Someone gave it up.
    Cancelled,
}

/// How a run stands.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// Someone holds its lease.
    Running,
    /// Nobody does any more: it waits for someone to take it over.
    Left,
    /// It has ended.
    Ended(RunEnd),
}

/// A run as `runs ls` shows it.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Its id.
    pub id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The version of its graph.
    pub version: String,
    /// How it stands.
    pub state: RunState,
    /// Who runs it, or ran it last.
    pub owner: String,
    /// How long the lease still lasts; zero if nobody has one.
    pub lease_left: Duration,
    /// How often it was taken over.
    pub resumed: u64,
    /// Whether its end was asked for.
    pub cancel_asked: bool,
    /// How long ago something last happened in it: it was begun, taken over, recorded in or ended.
    pub idle_for: Duration,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How many records it has.
    pub records: u64,
    /// What went wrong, if it ended so.
    pub error: Option<RunError>,
}

/// A run with what it was begun with, and what was recorded of it.
#[derive(Clone, Debug)]
pub struct Journaled {
    /// The run.
    pub run: RunInfo,
    /// Its graph as text.
    pub shape: String,
    /// What the program gave; values are JSON text now.
    pub input: Store,
    /// The records, in the order of recording.
    pub records: Vec<Recorded>,
}

/// Which runs: those that match every part given.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// The run of this id only.
    pub id: Option<String>,
    /// Runs of pipelines whose name matches this pattern.
    pub pipeline: Option<String>,
    /// Runs in one of these states, any if there are none.
    pub states: Vec<RunState>,
    /// Runs that began before the run of this id: the page behind it.
    pub after: Option<String>,
    /// At most so many, newest first.
    pub limit: Option<u64>,
}

names! {
    RunEnd, "run end":
    Success "success", Failure "failure", Exception "exception", Stopped "stopped",
    Cancelled "cancelled",
}

impl RunState {
    /// Returns the state in lower case, as logs and JSON show it: `running`, `left`, or how it ended.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Left => "left",
            Self::Ended(how) => how.name(),
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RunState {
    type Err = Error;

    /// Reads what [`RunState::name`] writes.
    fn from_str(text: &str) -> Result<Self> {
        let ended = RunEnd::ALL.iter().map(|how| Self::Ended(*how));
        let mut all = [Self::Running, Self::Left].into_iter().chain(ended);
        let names = ["running", "left"].into_iter().chain(RunEnd::ALL.iter().map(|how| how.name()));
        all.find(|state| state.name() == text).ok_or_else(|| unknown("run state", text, names))
    }
}
