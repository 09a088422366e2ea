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
    /// No slowness excuses it: what was confirmed is lost, or something was invented.
    firm: bool,
}

/// The result of every check within a case.
pub(super) type Checked<T = ()> = Result<T, Broken>;

/// A case under way.
pub(super) type Running<'a> = Pin<Box<dyn Future<Output = Checked<Finding>> + Send + 'a>>;

impl Broken {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), firm: false }
    }

    /// Says what no slowness excuses.
    pub(super) fn firm(why: impl Into<String>) -> Self {
        Self { why: why.into(), firm: true }
    }

    pub(super) fn is_firm(&self) -> bool {
        self.firm
    }

    /// Says what was being done.
    pub(super) fn within(self, what: &str) -> Self {
        Self { why: format!("{what}: {}", self.why), ..self }
    }

    /// Says what it came from.
    pub(super) fn follows(self, rule: Self) -> Self {
        let why = format!("{}; so that: {}", rule.why, self.why);
        Self { why, firm: self.firm || rule.firm }
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

/// Fails with what `why` says unless `holds`.
pub(super) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken::new(why())) }
}
