//! What a backend's place looks like from outside, before it is opened: the checks of `doctor`.

use crate::error::{Error, Result, chain};

/// How a check came out.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and someone should look.
    Warn,
    /// It does not work.
    Fail,
}

impl Status {
    /// Returns the status in lower case, as text and JSON show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at, in a word.
    pub name: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it, where that is known.
    pub advice: Option<String>,
}

impl Check {
    /// Notes what is as it should be.
    #[must_use]
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), advice: None }
    }

    /// Notes what someone should look at.
    #[must_use]
    pub fn warn(name: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name, status: Status::Warn, detail: detail.into(), advice }
    }

    /// Notes what does not work.
    #[must_use]
    pub fn failed(name: &'static str, error: &Error) -> Self {
        let advice = error.advice().map(Into::into);
        Self { name, status: Status::Fail, detail: chain(error), advice }
    }
}

/// What looking at a backend's place came to.
///
/// # Examples
/// ```
/// use railbus::{Error, ErrorKind, backends::checkup::{Check, Checkup, Status}};
///
/// let mut found = Checkup::default();
/// found.add("file", Ok(Check::ok("file", "orders.db, 4 KiB")));
/// found.add("disk", Ok(Check::warn("disk", "3 % free", "make room")));
/// found.add("schema", Err(Error::new(ErrorKind::Version, "open", "it is from a newer Railbus")));
/// let worst = found.checks.iter().map(|check| check.status).max();
/// assert_eq!(worst.map(Status::name), Some("fail"));
/// let denied = Error::new(ErrorKind::Denied, "open", "it belongs to root");
/// assert_eq!(Check::failed("file", &denied).status, Status::Fail);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Checkup {
    /// What was looked at, in order.
    pub checks: Vec<Check>,
    /// Whether opening it now would begin a store, or change how it is written: a look does not.
    pub begins: bool,
}

impl Checkup {
    /// Adds what was found, or why it could not be.
    pub fn add(&mut self, name: &'static str, found: Result<Check>) {
        self.checks.push(found.unwrap_or_else(|error| Check::failed(name, &error)));
    }
}
