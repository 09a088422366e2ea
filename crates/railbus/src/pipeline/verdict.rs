//! What the report of a run says: what the run came to, and what became of every step.

use super::{
    parts::Node,
    report::{RunReport, StepReport, one_line, said},
    status::{CancelReason, Status, StopReason},
};
use crate::{
    error::{BoxError, Error, chain},
    payload::{RawPayload, Shared},
    step::{Failure, StepError, Store},
};
use serde::de::DeserializeOwned;
use std::{error::Error as StdError, fmt, sync::Arc};

impl RunReport {
    /// Returns the name of the pipeline that ran.
    #[must_use]
    pub fn pipeline(&self) -> &str {
        &self.plan.name
    }

    /// Returns the id that the run is kept under, if a journal keeps it.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, store};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let pipeline = Pipeline::new("p").step(StepDef::value("a", |_| 1)).build()?;
    /// assert!(pipeline.run(store! {}).await.id().is_none());
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns what the run came to.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.cancelled.is_some() {
            return Status::Cancelled;
        }
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
        let last = self.last.map(|last| &self.plan.nodes[last]);
        let has_more = |last: &Node| last.next.is_some() || last.arm("1").is_some();
        last.is_some_and(|last| &*last.def.name == step && !has_more(last))
    }

    /// Returns the value of the step that the run came to last, if it left one.
    pub(super) fn last_value(&self) -> Option<&RawPayload> {
        self.store.value(&self.plan.nodes[self.last?].def.output)
    }

    /// Returns which step ended the run, be it the last, and why; none if it went to its end by
    /// itself, be it past failures, as a lenient pipeline does.
    #[must_use]
    pub fn stopped(&self) -> Option<(&str, StopReason)> {
        self.stopped.as_ref().map(|(step, reason)| (&**step, *reason))
    }

    /// Returns which step was running when the run was given up, if one was, and why it was; none
    /// if nobody gave it up.
    #[must_use]
    pub fn cancelled(&self) -> Option<(Option<&str>, CancelReason)> {
        self.cancelled.as_ref().map(|(step, reason)| (step.as_deref(), *reason))
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
        self.steps.get_or_init(|| self.lines())
    }

    fn lines(&self) -> Vec<StepReport> {
        // A group without a name of its own has no line: its members have.
        let mut places = vec![None; self.plan.nodes.len()];
        let mut lines = Vec::with_capacity(places.len());
        for (place, node) in places.iter_mut().zip(&self.plan.nodes) {
            if node.is_named() {
                *place = Some(lines.len());
                lines.push(StepReport::not_run(&node.def.name));
            }
        }
        for visit in &self.trail {
            if let Some(Some(place)) = places.get(visit.node as usize) {
                lines[*place].add(visit);
            }
        }
        lines
    }

    /// Returns what became of a step of the pipeline.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps().iter().find(|step| &*step.name == name)
    }

    /// Returns the names of the steps that the run came to, in the order it did; those of a group
    /// in the order they are written.
    pub fn path(&self) -> impl Iterator<Item = &str> {
        let nodes = self.trail.iter().map(|visit| &self.plan.nodes[visit.node as usize]);
        nodes.filter(|node| node.is_named()).map(|node| &*node.def.name)
    }

    /// Turns the report into what a handler returns.
    ///
    /// # Errors
    /// Returns a [`RunError`]. If the step said no, its source is the step's own
    /// [`Failure`](crate::step::Failure), which no policy tries again; an exception may be. If someone
    /// asked the journal for the end of the run, it is a failure too: it was not to go on. So it is if
    /// what the run was given is not what it needs, which no other try changes.
    pub fn into_result(self) -> Result<(), BoxError> {
        let is_last = self.is_called_off || self.is_unfit();
        match self.failed {
            None => Ok(()),
            Some((step, error)) => {
                let (kind, source) = match error {
                    StepError::Exception(exception) if is_last => {
                        (Some(exception.kind), Failure::new(chain(&*exception.error)).into())
                    }
                    StepError::Failure(failure) => (None, failure.into()),
                    StepError::Exception(exception) => (Some(exception.kind), exception.error),
                };
                Err(Box::new(RunError {
                    pipeline: Arc::clone(&self.plan.name),
                    step,
                    kind,
                    source,
                }))
            }
        }
    }
}

impl RunReport {
    /// Tells whether it failed for what it was given: that lacks something, or is of another type.
    fn is_unfit(&self) -> bool {
        let plan = &*self.plan;
        let is_given = |key: &str| {
            plan.wanted.inputs.iter().any(|given| given.name == key)
                && !plan.nodes.iter().any(|node| *node.def.output == *key)
        };
        match &self.failed {
            Some((step, StepError::Exception(exception))) if exception.kind == "input" => {
                let Some(step) = step else { return true };
                let node = plan.nodes.iter().find(|node| node.def.name == *step);
                // What another step left may be another value next time.
                node.is_some_and(|Node { def, .. }| {
                    let mut needs = def.signature.all_needs().iter();
                    needs.all(|need| is_given(def.bindings.key(&need.name)))
                })
            }
            _ => false,
        }
    }

    fn write_lines(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        for step in self.steps() {
            write!(f, "\n{:width$}{step}", "", width = 2 * depth)?;
            if let Some(inside) = &step.inside {
                inside.write_lines(f, depth + 1)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RunReport {
    /// Writes what the run came to, then a line for every step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.plan.name, self.status())?;
        // What no step's line tells.
        let told = |name: &str| self.plan.find(name).is_some();
        if let Some((_, error)) =
            self.failed.as_ref().filter(|(step, _)| !step.as_deref().is_some_and(told))
        {
            write!(f, ": {}", one_line(&said(error)))?;
        }
        self.write_lines(f, 1)
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
