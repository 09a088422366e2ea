//! What is kept of a step.

use super::names::names;
use crate::{clock::Timestamp, payload::RawPayload, step::Store};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a step came to, at one place of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The place: text that is the same whenever the flow comes there, such as `ship` or
    /// `fulfil/each#3/charge`.
    pub path: String,
    /// Which time it is that the flow came there, from 1 on.
    pub visit: u32,
    /// What it came to (default success).
    pub status: RecordStatus,
    /// How often it ran (default once).
    pub tries: u32,
    /// How long it took (default no time), kept to the microsecond.
    pub duration: Duration,
    /// What it put into the run's store (default nothing).
    pub values: Store,
    /// What it passed on, where that is more than its values (default nothing).
    pub passed: Option<RawPayload>,
    /// Where the run goes from there (default to the next step).
    pub went: Went,
    /// What went wrong (default nothing).
    pub error: Option<RunError>,
}

impl Record {
    /// Creates a record of a success that left nothing.
    pub fn new(path: impl Into<String>, visit: u32) -> Self {
        Self {
            path: path.into(),
            visit,
            status: RecordStatus::Success,
            tries: 1,
            duration: Duration::ZERO,
            values: Store::new(),
            passed: None,
            went: Went::Next,
            error: None,
        }
    }
}

/// A record as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its number in the run, from 1 on, in the order of recording.
    pub number: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// What was recorded; values are JSON text now.
    pub record: Record,
}

/// What is recorded of a place.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// The step succeeded.
    Success,
    /// It said no.
    Failure,
    /// An error befell it, on its last try.
    Exception,
    /// It had nothing to do.
    Skipped,
    /// It was given up.
    Cancelled,
    /// It is no step: something the run decided there that it might decide otherwise again.
    Decision,
}

names! {
    RecordStatus, "record status":
    Success "success", Failure "failure", Exception "exception", Skipped "skipped",
    Cancelled "cancelled", Decision "decision",
}

/// Where a run goes from a place.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Went {
    /// To the next step.
    Next,
    /// To the step of that name.
    Goto {
        /// The step's name.
        to: String,
        /// Why.
        reason: String,
        /// Whether the step that jumps counts as failed.
        failed: bool,
    },
    /// Along the branch of that label.
    Branch(String),
    /// Nowhere: the run ends there, well.
    Stop,
    /// To the next step, as if this one had not run.
    Skip,
}

/// What went wrong in a run, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct RunError {
    /// The kind: `failure`, or an exception's own.
    pub kind: String,
    /// What happened, in one line with its causes.
    pub message: String,
    /// What a failure found (default `null`).
    pub value: RawPayload,
}

impl RunError {
    /// Creates an error without a value.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), value: RawPayload::null() }
    }
}
