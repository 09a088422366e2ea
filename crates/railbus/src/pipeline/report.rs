//! The report of a run: what became of every step, and of the whole.

use crate::{
    error::{BoxError, Error, chain},
    payload::Shared,
    step::{Flow, StepError, StepResult, Store},
};
use serde::de::DeserializeOwned;
use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

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
    /// [`Flow::Stop`].
    Stopped,
    /// Someone gave the run up. Not given yet: a run that is dropped leaves no report.
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
    /// The run ended before it.
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
            Self::NotRun => "not_run",
        }
    }
}

impl StepStatus {
    /// Returns what a step came to.
    pub(super) fn of(came: &StepResult) -> Self {
        match came {
            Ok(Flow::Skip) => Self::Skipped,
            Ok(_) => Self::Success,
            Err(StepError::Failure(_)) => Self::Failure,
            Err(StepError::Exception(_)) => Self::Exception,
        }
    }
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What became of one step.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The step's name.
    pub name: Arc<str>,
    /// What it came to.
    pub status: StepStatus,
    /// How often it ran; 0 if it did not.
    pub tries: u32,
    /// How long it took, all tries and the waits between them together.
    pub duration: Duration,
    /// What went wrong on its last try: a failure's message, or an exception's kind and causes.
    pub error: Option<String>,
}

impl StepReport {
    /// Puts down how a step ended.
    pub(super) fn ends(&mut self, tries: u32, duration: Duration, status: StepStatus) {
        (self.tries, self.duration, self.status) = (tries, duration, status);
    }

    pub(super) fn not_run(name: &Arc<str>) -> Self {
        let (status, tries, duration) = (StepStatus::NotRun, 0, Duration::ZERO);
        Self { name: Arc::clone(name), status, tries, duration, error: None }
    }
}

impl fmt::Display for StepReport {
    /// Writes one line, whatever the error contains.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.status)?;
        if self.tries > 0 {
            let plural = if self.tries == 1 { "try" } else { "tries" };
            write!(f, ", {} {plural}, {:.3} s", self.tries, self.duration.as_secs_f64())?;
        }
        match &self.error {
            Some(error) => write!(f, ": {}", one_line(error)),
            None => Ok(()),
        }
    }
}

/// The report of a run: every step of the pipeline in its order, the values, and how it ended.
///
/// Its status is read off what ended the run, so that a failure can't be hidden.
///
/// # Examples
/// ```
/// use railbus::pipeline::{StepReport, StepStatus, StopReason};
/// use railbus::{Failure, Pipeline, Status, StepDef, store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let check = StepDef::fallible("check", |_| Err(Failure::new("sold out").into()));
/// let report = Pipeline::new("orders").step(check).build()?.run(store! {}).await;
/// assert_eq!(report.status(), Status::Failure);
/// assert_eq!(report.stopped(), Some(("check", StopReason::Failure)));
/// assert!(report.to_string().contains("check: failure, 1 try"));
/// assert_eq!((report.pipeline(), report.status().name()), ("orders", "failure"));
/// let step: &StepReport = &report.steps()[0];
/// assert_eq!((step.status, step.tries), (StepStatus::Failure, 1));
/// assert_eq!(report.error().unwrap().line(), "sold out");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "a run that failed says so in its report alone"]
#[derive(Debug)]
pub struct RunReport {
    pub(super) pipeline: Arc<str>,
    pub(super) steps: Vec<StepReport>,
    pub(super) store: Arc<Store>,
    // The worst that became of a step, the first one if there are several; no step if the run
    // could not start.
    pub(super) failed: Option<(Option<Arc<str>>, StepError)>,
    // The step that ended the run, and why.
    pub(super) stopped: Option<(Arc<str>, StopReason)>,
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

impl RunReport {
    /// Returns the name of the pipeline that ran.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Returns what the run came to.
    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.failed, &self.stopped) {
            (None, None) => Status::Success,
            // A success that ends the run with its last step cuts nothing off.
            (None, Some((step, StopReason::Success))) if self.is_last(step) => Status::Success,
            (None, Some(_)) => Status::Stopped,
            (Some((_, StepError::Failure(_))), _) => Status::Failure,
            (Some((_, StepError::Exception(_))), _) => Status::Exception,
        }
    }

    fn is_last(&self, step: &str) -> bool {
        self.steps.last().is_some_and(|last| &*last.name == step)
    }

    /// Returns which step ended the run, be it the last, and why; none if it went to its end by
    /// itself, be it past failures, as a lenient pipeline does.
    #[must_use]
    pub fn stopped(&self) -> Option<(&str, StopReason)> {
        self.stopped.as_ref().map(|(step, reason)| (&**step, *reason))
    }

    /// Returns a value of the run as a `T`.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        name: &str,
    ) -> Result<Shared<T>, Error> {
        self.store.get(name)
    }

    /// Returns the values of the run, by name: those it was given, those that its steps left, and
    /// what was passed on where a step was passed by.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns what went wrong, unless nothing did: the exception that befell a step, else the
    /// failure of one, the first of its kind.
    #[must_use]
    pub fn error(&self) -> Option<&StepError> {
        self.failed.as_ref().map(|(_, error)| error)
    }

    /// Returns what became of every step of the pipeline, in the pipeline's order.
    #[must_use]
    pub fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// Turns the report into what a handler returns.
    ///
    /// # Errors
    /// Returns a [`RunError`]. If the step said no, its source is the step's own
    /// [`Failure`](crate::step::Failure), which no policy tries again; an exception may be.
    pub fn into_result(self) -> Result<(), BoxError> {
        match self.failed {
            None => Ok(()),
            Some((step, error)) => {
                let (kind, source) = match error {
                    StepError::Failure(failure) => (None, failure.into()),
                    StepError::Exception(exception) => (Some(exception.kind), exception.error),
                };
                Err(Box::new(RunError { pipeline: self.pipeline, step, kind, source }))
            }
        }
    }
}

impl fmt::Display for RunReport {
    /// Writes what the run came to, then a line for every step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pipeline, self.status())?;
        // What no step's line tells.
        if let Some((None, error)) = &self.failed {
            write!(f, ": {}", one_line(&said(error)))?;
        }
        self.steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
    }
}

/// A run that did not succeed: in which step, if it came to one, and why.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, pipeline::RunError, store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let ship = StepDef::fallible("ship", |_| Err("no truck".into()));
/// let report = Pipeline::new("orders").step(ship).build()?.run(store! {}).await;
/// let error = report.into_result().unwrap_err();
/// let error: &RunError = error.downcast_ref().unwrap();
/// assert_eq!((error.pipeline(), error.step()), ("orders", Some("ship")));
/// assert_eq!(error.kind(), Some("error"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct RunError {
    pipeline: Arc<str>,
    step: Option<Arc<str>>,
    // None: the step said no.
    kind: Option<String>,
    source: BoxError,
}

impl RunError {
    /// Returns the name of the pipeline.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Returns the name of the step that did not succeed; none if the run could not start, since
    /// an input was missing.
    #[must_use]
    pub fn step(&self) -> Option<&str> {
        self.step.as_deref()
    }

    /// Returns the exception's kind, such as `timeout`, by which retry policies choose; none if
    /// the step said no.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the pipeline: whoever reads this knows the subscription, which is its namesake.
        if let Some(step) = &self.step {
            write!(f, "step {step}: ")?;
        }
        if let Some(kind) = &self.kind {
            write!(f, "{kind}: ")?;
        }
        f.write_str(&chain(&*self.source))
    }
}

impl StdError for RunError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// Returns what went wrong as a report has it.
pub(super) fn said(error: &StepError) -> String {
    match error {
        StepError::Failure(_) => error.line(),
        StepError::Exception(exception) => format!("{}: {}", exception.kind, error.line()),
    }
}

/// Writes line ends and other control characters as escapes.
fn one_line(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.trim_end().chars().map(escape).collect()
}
