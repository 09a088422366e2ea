//! The report of a run, and a line of it for every step.

use super::{
    parts::Plan,
    status::{CancelReason, StepStatus, StopReason},
};
use crate::step::{StepError, Store};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The report of a run: every step of the pipeline in its order, the values, and how it ended.
///
/// Its status is read off what ended the run, so that a failure can't be hidden.
///
/// # Examples
/// ```
/// use railbus::pipeline::{ItemsReport, Jump, StepReport, StepStatus, StopReason};
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
/// assert_eq!(report.path().collect::<Vec<_>>(), ["check"]);
/// let (jump, items): (&Option<Jump>, Option<&ItemsReport>) = (&step.goto, step.items.as_deref());
/// assert!(jump.is_none() && items.is_none() && report.step("check").is_some());
/// assert!(report.cancelled().is_none());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "a run that failed says so in its report alone"]
#[derive(Debug)]
pub struct RunReport {
    pub(super) plan: Arc<Plan>,
    // The steps the run came to, in the order it ended with them; members of a group in theirs.
    pub(super) trail: Vec<Visit>,
    pub(super) steps: OnceLock<Vec<StepReport>>,
    pub(super) store: Arc<Store>,
    // The worst that became of a step, the first one if there are several; no step if the run
    // could not start.
    pub(super) failed: Option<(Option<Arc<str>>, StepError)>,
    // The step that ended the run, and why.
    pub(super) stopped: Option<(Arc<str>, StopReason)>,
    // Where and why the run was given up.
    pub(super) cancelled: Option<(Option<Arc<str>>, CancelReason)>,
    // The step it came to last, outside of groups.
    pub(super) last: Option<usize>,
    // Under which id it is kept.
    pub(super) id: Option<String>,
    // Whether someone asked its journal for its end.
    pub(super) is_called_off: bool,
}

/// What became of one step.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct StepReport {
    /// The step's name.
    pub name: Arc<str>,
    /// What it came to, the last time the run came to it.
    pub status: StepStatus,
    /// How often the run came to it; more than once only by jumps.
    pub visits: u32,
    /// How often it was tried, over all visits; 0 if it did not run.
    pub tries: u32,
    /// How long it took, all tries and the waits between them together.
    pub duration: Duration,
    /// What went wrong on its last try: a failure's message, or an exception's kind and causes.
    pub error: Option<String>,
    /// Where it jumped to, the last time, and why.
    pub goto: Option<Jump>,
    /// The branch it took by its label, the last time.
    pub branch: Option<Arc<str>>,
    /// What became of the items it ran for, if it is an [`each`](super::each).
    pub items: Option<Arc<ItemsReport>>,
    /// What its own steps came to, if it is a pipeline, or a step that repeats: the last time.
    pub inside: Option<Arc<RunReport>>,
}

/// A jump from a step to another one.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The step it led to.
    pub to: Arc<str>,
    /// Why.
    pub reason: String,
}

/// What became of the items that a step ran for.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemsReport {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many did not: failed, befallen by an exception, or cancelled.
    pub failed: u64,
    /// The first 100 that did not succeed: their places from 0, and why.
    pub failures: Vec<(u64, String)>,
}

impl fmt::Display for ItemsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} items", self.succeeded, self.succeeded + self.failed)
    }
}

impl StepReport {
    pub(super) fn not_run(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            status: StepStatus::NotRun,
            visits: 0,
            tries: 0,
            duration: Duration::ZERO,
            error: None,
            goto: None,
            branch: None,
            items: None,
            inside: None,
        }
    }

    /// Puts down what a visit came to.
    pub(super) fn add(&mut self, visit: &Visit) {
        self.visits += 1;
        self.tries += visit.tries;
        self.duration += visit.duration;
        (self.status, self.error) = (visit.status, visit.error.clone());
        (self.goto, self.branch) = (None, None);
        match &visit.went {
            Went::On => {}
            Went::Goto(jump) => self.goto = Some(Jump::clone(jump)),
            Went::Branch(label) => self.branch = Some(Arc::clone(label)),
        }
        match &visit.inside {
            Inside::Nothing => {}
            Inside::Items(items) => self.items = Some(Arc::clone(items)),
            Inside::Run(report) => self.inside = Some(Arc::clone(report)),
        }
    }
}

/// A step that a run came to, and what it came to there.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) node: u32,
    pub(super) status: StepStatus,
    pub(super) tries: u32,
    pub(super) duration: Duration,
    pub(super) error: Option<String>,
    pub(super) went: Went,
    pub(super) inside: Inside,
}

/// Where a run went after a step, if not to the next.
#[derive(Debug)]
pub(super) enum Went {
    On,
    Goto(Box<Jump>),
    Branch(Arc<str>),
}

/// What a step with steps of its own came to.
#[derive(Debug)]
pub(super) enum Inside {
    Nothing,
    Items(Arc<ItemsReport>),
    Run(Arc<RunReport>),
}

impl fmt::Display for StepReport {
    /// Writes one line, whatever the error contains.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.status)?;
        if self.tries > 0 {
            let plural = if self.tries == 1 { "try" } else { "tries" };
            write!(f, ", {} {plural}, {:.3} s", self.tries, self.duration.as_secs_f64())?;
        }
        if self.visits > 1 {
            write!(f, ", {} visits", self.visits)?;
        }
        if let Some(items) = &self.items {
            write!(f, ", {items}")?;
        }
        if let Some(Jump { to, reason }) = &self.goto {
            write!(f, ", goto {to} ({})", one_line(reason))?;
        }
        if let Some(label) = &self.branch {
            write!(f, ", branch {}", one_line(label))?;
        }
        match &self.error {
            Some(error) => write!(f, ": {}", one_line(error)),
            None => Ok(()),
        }
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
pub(super) fn one_line(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.trim_end().chars().map(escape).collect()
}
