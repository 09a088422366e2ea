//! What a case finds, and how it says that something is broken.

use crate::error::{Error, chain};
use std::{fmt, future::Future, pin::Pin};

/// What a case comes to if nothing is broken.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Finding {
    Passed(Option<String>),
    /// Not claimed, and refused when asked for.
    Refused(String),
    /// Can't be run here.
    NotRun(String),
}

/// Why a case fails.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    why: String,
    excuse: Excuse,
}

/// What a failure may come from that is no fault of the backend; the later, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Excuse {
    /// A lease that ran out, as a call of its own or this process took too long.
    Slow,
    /// This process stood still: what did not come in all that time is not excused by a slow call.
    Still,
    /// None: what was confirmed is lost, or something was invented.
    None,
}

/// The result of every check within a case.
pub(super) type Checked<T = ()> = Result<T, Broken>;

/// A case under way.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Checked<Finding>> + Send + 'a>>;

impl Broken {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), excuse: Excuse::Slow }
    }

    /// Says what did not come, however long it was waited for.
    pub(super) fn late(why: impl Into<String>) -> Self {
        Self { why: why.into(), excuse: Excuse::Still }
    }

    /// Says what no slowness excuses.
    pub(super) fn firm(why: impl Into<String>) -> Self {
        Self { why: why.into(), excuse: Excuse::None }
    }

    /// Says that no slowness excuses it here.
    pub(super) fn firmly(self) -> Self {
        Self { excuse: Excuse::None, ..self }
    }

    pub(super) fn excuse(&self) -> Excuse {
        self.excuse
    }

    /// Says what was being done.
    pub(super) fn within(self, what: &str) -> Self {
        Self { why: format!("{what}: {}", self.why), ..self }
    }

    /// Says what it came from.
    pub(super) fn follows(self, rule: &Self) -> Self {
        let why = format!("{}; so that: {}", rule.why, self.why);
        // What was only waited for is what the rule says came before it.
        let excuse = if self.excuse == Excuse::None { self.excuse } else { rule.excuse };
        Self { why, excuse }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        let said = chain(&error);
        Self::new(error.advice().map_or(said.clone(), |hint| format!("{said} ({hint})")))
    }
}

/// As [`ensure`], with what no slowness excuses.
pub(super) fn ensure_firmly(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken::firm(why())) }
}

/// Fails with what `why` says unless `holds`.
pub(super) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken::new(why())) }
}
