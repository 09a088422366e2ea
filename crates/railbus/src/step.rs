//! Steps: units of work, and what they come to.

use crate::{
    error::{BoxError, Result, chain},
    event::Event,
};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::{error::Error as StdError, fmt};

/// A unit of work in a pipeline. May be run by many tasks at once.
#[async_trait]
pub trait Step: Send + Sync + fmt::Debug + 'static {
    /// Runs the step once. If it is dropped, the work is given up and leaves nothing behind.
    async fn run(&self, input: Input<'_>) -> StepResult;
}

/// What a step came to: a value, a failure it decided on, or an exception that befell it.
pub type StepResult = Result<Option<Value>, StepError>;

/// What a step is given.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The event that caused the run.
    pub event: &'a Event,
    /// The values of the steps before it, by name.
    pub store: &'a Store,
    /// Which try of the event this is, from 1.
    pub attempt: u32,
    /// Which try of the step this is within the run, from 1.
    pub step_try: u32,
}

/// Named values of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store(Map<String, Value>);

impl Store {
    /// Returns the value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Keeps a value under a name, in place of what was there.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// Returns all values as a map.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// The step says no: a decision with a message and a value, never retried.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Why not.
    pub message: String,
    /// What the step found, for whoever handles the failure.
    pub value: Value,
}

impl Failure {
    /// Creates a failure without a value.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), value: Value::Null }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

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
}

/// How a step did not succeed. Not itself an `Error`, so that `?` can classify any error.
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
            Self::Failure(failure) => failure.message.clone(),
            Self::Exception(exception) => chain(&*exception.error),
        }
    }
}

impl<E: Into<BoxError> + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast::<Failure>() {
            Ok(failure) => Self::Failure(*failure),
            Err(error) => Self::Exception(Exception::new("error", error)),
        }
    }
}
