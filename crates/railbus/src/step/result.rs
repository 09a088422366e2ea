//! How a step does not succeed.

use super::flow::Flow;
use crate::error::{BoxError, causes, chain};
use serde::Serialize;
use serde_json::Value;
#[cfg(feature = "processes")]
use std::any::Any;
use std::{error::Error as StdError, fmt, sync::Arc};

/// What a step came to: a [`Flow`] or a value of its own, or how it did not succeed.
///
/// # Examples
/// ```
/// use railbus::{StepResult, step::{Failure, StepError}};
///
/// fn check(stock: u32) -> StepResult<u32> {
///     if stock == 0 {
///         return Err(Failure::new("sold out").into());
///     }
///     let shelf: u32 = "7".parse()?; // any error is an exception
///     Ok(stock + shelf)
/// }
///
/// assert_eq!(check(1).unwrap(), 8);
/// assert!(matches!(check(0), Err(StepError::Failure(no)) if no.message() == "sold out"));
/// ```
pub type StepResult<T = Flow> = Result<T, StepError>;

/// The step says no: a decision with a message and a value, never retried.
///
/// # Examples
/// ```
/// use railbus::{Error, ErrorKind, Failure, json, step::{Exception, StepError}};
///
/// let no = Failure::new("the card was refused").value(json!({"code": 51})).because("no money");
/// assert_eq!((no.message(), no.found()), ("the card was refused", &json!({"code": 51})));
/// assert_eq!(no.to_string(), "the card was refused: no money");
///
/// // Whatever wraps it, it stays the step's own decision.
/// let wrapped = Error::new(ErrorKind::Handler, "charge", "no").because(no.clone());
/// assert_eq!(Failure::find(&wrapped), Some(no));
/// assert_eq!(StepError::from(wrapped).kind(), "failure");
///
/// let late = StepError::Exception(Exception::new("timeout", "after 5 s"));
/// assert_eq!((late.kind(), late.line().as_str()), ("timeout", "after 5 s"));
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Failure(Arc<Said>);

/// What a failure says. It is the failure's own source, so that it is found wherever the failure
/// was wrapped, as `anyhow` does: a wrapper hides what it wraps from a downcast, not its sources.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    message: String,
    value: Value,
    cause: Option<String>,
}

impl Said {
    fn caused(&mut self, cause: String) {
        self.cause = Some(match self.cause.take() {
            Some(before) => format!("{before}; {cause}"),
            None => cause,
        });
    }
}

impl Failure {
    /// Creates a failure without a value.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Arc::new(Said { message: message.into(), value: Value::Null, cause: None }))
    }

    /// Adds what the step found, for whoever handles the failure; `null` if it can't be encoded,
    /// and why not is a cause then.
    #[must_use]
    pub fn value(mut self, value: impl Serialize) -> Self {
        let said = Arc::make_mut(&mut self.0);
        match serde_json::to_value(value) {
            Ok(value) => said.value = value,
            Err(error) => said.caused(format!("what it found can't be encoded: {error}")),
        }
        self
    }

    /// Adds the error that made the step say no.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.0).caused(chain(&*cause.into()));
        self
    }

    /// Returns why not.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what the step found.
    #[must_use]
    pub fn found(&self) -> &Value {
        &self.0.value
    }

    /// Returns what made the step say no.
    #[cfg(feature = "processes")]
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// Finds the failure that an error is or wraps.
    #[must_use]
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        causes(error).find_map(|error| {
            let said = error.downcast_ref::<Said>().map(|said| Self(Arc::new(said.clone())));
            error.downcast_ref::<Self>().cloned().or(said)
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The same as the failure's, so that a chain of causes tells it once.
        f.write_str(&self.message)
    }
}

impl StdError for Said {}

/// An error that befell a step: its kind, by which retry policies choose, and what happened.
#[derive(Debug)]
pub struct Exception {
    /// Free text such as `timeout`, `exit`, `signal`, or what a command named.
    pub kind: String,
    /// What happened.
    pub error: BoxError,
}

impl Exception {
    /// Creates an exception of `kind`.
    pub fn new(kind: impl Into<String>, error: impl Into<BoxError>) -> Self {
        Self { kind: kind.into(), error: error.into() }
    }

    /// Makes one of a panic.
    #[cfg(feature = "processes")]
    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::new("panic", text.unwrap_or_else(|| "a panic without a message".into()))
    }
}

/// How a step did not succeed. Not itself an `Error`, so that `?` can classify any error: one that
/// is or wraps a [`Failure`] is the step's decision, every other an exception.
#[non_exhaustive]
#[derive(Debug)]
pub enum StepError {
    /// The step said no.
    Failure(Failure),
    /// Something befell the step.
    Exception(Exception),
}

impl StepError {
    /// Returns the error and its causes in one line.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Failure(failure) => failure.to_string(),
            Self::Exception(exception) => chain(&*exception.error),
        }
    }

    /// Returns the kind: an exception's own, or `failure`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Failure(_) => "failure",
            Self::Exception(exception) => &exception.kind,
        }
    }
}

impl<E: Into<BoxError> + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let error = error.into();
        match Failure::find(&*error) {
            Some(failure) => Self::Failure(failure),
            None => Self::Exception(Exception::new("error", error)),
        }
    }
}

/// Turns errors into failures: `read(path).or_fail("no such order")?`.
///
/// # Examples
/// ```
/// use railbus::OrFail;
///
/// let no = "x".parse::<u32>().or_fail("the order has no number").unwrap_err();
/// assert_eq!(no.message(), "the order has no number");
/// assert_eq!(None::<u32>.or_fail("no such order").unwrap_err().message(), "no such order");
/// ```
pub trait OrFail<T> {
    /// Makes an error a failure with this message, the error as its cause.
    ///
    /// # Errors
    /// Returns the failure.
    fn or_fail(self, message: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<BoxError>> OrFail<T> for Result<T, E> {
    fn or_fail(self, message: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(message).because(error))
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_fail(self, message: impl Into<String>) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::new(message))
    }
}
