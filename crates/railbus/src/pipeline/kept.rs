//! Running a step of a run that is kept; what it came to, as the journal keeps it, and back.

use super::{
    lane::Lane,
    log::{Log, Place},
    once::{Came, One},
    parts::Work,
    report::{Inside, Jump, Visit, Went, said},
    status::{CancelReason, StepStatus},
};
use crate::{
    journal::{self, Record, RecordStatus},
    payload::RawPayload,
    step::{Exception, Failure, Flow, StepError, Store},
};
use std::{sync::Arc, time::Duration};

/// Whether a step is asked if it is to run, and where that is noted.
pub(super) struct Asked<'a> {
    // Whether it is known that it runs.
    pub(super) is_known: bool,
    noting: Option<(&'a Log, Place)>,
}

impl Asked<'_> {
    /// Asks, and notes nothing.
    pub(super) fn now() -> Self {
        Self { is_known: false, noting: None }
    }

    /// Notes that the step runs.
    pub(super) fn runs(&mut self) {
        if let Some((log, place)) = self.noting.take() {
            log.decided(place, Record::new("", 1));
        }
    }
}

impl One<'_> {
    /// Runs the step, unless the journal knows what it came to; records that before anything
    /// follows.
    pub(super) async fn run_kept(self, log: &Log, lane: &mut Lane) -> Came {
        let def = self.def();
        let is_leaf = matches!(def.work, Work::Step(_));
        let (place, known) = log.arrive(self.going.prefix, &def.name);
        match known {
            Some(record) if record.status == RecordStatus::Decision => {
                return self.run_now(lane, Asked { is_known: true, noting: None }).await;
            }
            Some(record) => return self.come_again(&record, lane),
            None if is_leaf && log.is_over() => return self.never_ran(log, &place, lane),
            None => {}
        }
        // The steps of a step are recorded themselves; that it runs is, if that may change.
        let may_pass = def.bypass.is_some() || def.condition.is_some() || def.once.is_some();
        let noting = (!is_leaf && may_pass).then(|| (log, place.clone()));
        let index = self.index;
        let came = self.run_now(lane, Asked { is_known: false, noting }).await;
        let Some(visit) = lane.trail.last().filter(|visit| visit.node as usize == index) else {
            return came;
        };
        // What the end of the whole run cut off runs again, if that is not recorded.
        let is_cut = matches!(came, Came::Cut(_)) && log.limits.over().is_some();
        if (is_leaf || visit.tries == 0) && !is_cut {
            let mut left = Store::new();
            let leaves = def.sub_leaves().unwrap_or_default().iter().map(|leaf| &*leaf.name);
            let names = std::iter::once(&*def.output).chain(leaves);
            for name in names.filter(|_| !matches!(came, Came::LeftOut | Came::Cut(_))) {
                if let Some(value) = lane.store.value(name) {
                    left.keep(name, value.clone());
                }
            }
            log.record(place, kept(visit, &came, left)).await;
        }
        came
    }

    /// Puts down what a recorded step came to.
    fn come_again(&self, record: &Record, lane: &mut Lane) -> Came {
        lane.bound = None;
        for name in record.values.names() {
            if let Some(value) = record.values.value(name) {
                Arc::make_mut(&mut lane.store).keep(name, value.clone());
            }
        }
        let (visit, came) = again(record, self.index);
        match came {
            // It had not begun.
            Came::Cut(reason) if record.tries == 0 => lane.cancelled = Some((None, reason)),
            _ => lane.trail.push(visit),
        }
        came
    }

    /// Decides whether a step with steps of its own is tried again, and after which wait.
    pub(super) fn tries_again(&self, log: &Log, wait: Option<Duration>) -> Option<Duration> {
        let what = format!("{}!", self.def().name);
        let (again, is_known) = log.decide(self.going.prefix, &what, || Ok(wait.is_some()));
        match again {
            // The wait was before.
            Ok(true) if is_known => Some(Duration::ZERO),
            Ok(true) => wait,
            _ => None,
        }
    }

    /// Comes to a step that a run which is over did not come to the end of.
    fn never_ran(&self, log: &Log, place: &Place, lane: &mut Lane) -> Came {
        log.missing(place);
        let step = log.given_up().and_then(|(step, _)| step);
        if step.is_some_and(|step| step == self.def().name) {
            self.note(lane, StepStatus::Cancelled, 0, Duration::ZERO);
        }
        Came::Cut(CancelReason::Asked)
    }
}

/// Returns what is kept of a step, but for its place.
fn kept(visit: &Visit, came: &Came, values: Store) -> Record {
    let mut record = Record::new("", 1);
    record.status = match visit.status {
        StepStatus::Success => RecordStatus::Success,
        StepStatus::Failure => RecordStatus::Failure,
        StepStatus::Exception => RecordStatus::Exception,
        StepStatus::Skipped | StepStatus::NotRun => RecordStatus::Skipped,
        StepStatus::Cancelled => RecordStatus::Cancelled,
    };
    (record.tries, record.duration, record.values) = (visit.tries, visit.duration, values);
    record.went = match came {
        Came::Went(Flow::Goto(goto)) => journal::Went::Goto {
            to: goto.to.clone(),
            reason: goto.reason.clone(),
            failed: goto.failed,
        },
        Came::Went(Flow::Branch(branch)) => journal::Went::Branch(branch.label.clone()),
        Came::Went(Flow::Stop(_)) => journal::Went::Stop,
        Came::Went(Flow::Skip) | Came::LeftOut => journal::Went::Skip,
        _ => journal::Went::Next,
    };
    if let Came::Not(error) = came {
        let mut kept = journal::RunError::new(error.kind(), error.line());
        if let StepError::Failure(failure) = error {
            kept.value = RawPayload::of(failure.found().clone());
        }
        record.error = Some(kept);
    }
    if let Came::Cut(reason) = came {
        record.error = Some(cut(*reason));
    }
    record
}

/// Returns what is kept of a step that a limit inside the run left no time for.
pub(super) fn not_begun(reason: CancelReason) -> Record {
    let mut record = Record::new("", 1);
    (record.status, record.tries) = (RecordStatus::Cancelled, 0);
    record.error = Some(cut(reason));
    record
}

fn cut(reason: CancelReason) -> journal::RunError {
    journal::RunError::new(reason.name(), "it was given up")
}

/// Returns what a recorded step came to, as if it had run again.
fn again(record: &Record, node: usize) -> (Visit, Came) {
    let status = match record.status {
        RecordStatus::Failure => StepStatus::Failure,
        RecordStatus::Exception => StepStatus::Exception,
        RecordStatus::Skipped => StepStatus::Skipped,
        RecordStatus::Cancelled => StepStatus::Cancelled,
        _ => StepStatus::Success,
    };
    let (came, went) = match (&record.error, &record.went) {
        (Some(error), _) if status == StepStatus::Cancelled => {
            (Came::Cut(CancelReason::of(&error.kind)), Went::On)
        }
        (Some(error), _) => (Came::Not(raised(error)), Went::On),
        (None, journal::Went::Goto { to, reason, failed }) => {
            let mut goto = Flow::goto(to, ()).reason(reason);
            goto.failed = *failed;
            let jump = Jump { to: to.as_str().into(), reason: reason.clone() };
            (Came::Went(goto.into()), Went::Goto(Box::new(jump)))
        }
        (None, journal::Went::Branch(label)) => {
            (Came::Went(Flow::branch(label, ())), Went::Branch(label.as_str().into()))
        }
        (None, journal::Went::Stop) => (Came::Went(Flow::Stop(None)), Went::On),
        (None, journal::Went::Skip) if record.tries == 0 => (Came::LeftOut, Went::On),
        (None, journal::Went::Skip) => (Came::Went(Flow::Skip), Went::On),
        (None, _) if status == StepStatus::Skipped => (Came::Passed, Went::On),
        (None, _) => (Came::Went(Flow::Next(None)), Went::On),
    };
    let node = u32::try_from(node).unwrap_or(u32::MAX);
    let error = match &came {
        Came::Not(error) => Some(said(error)),
        _ => None,
    };
    let (tries, duration, inside) = (record.tries, record.duration, Inside::Nothing);
    (Visit { node, status, tries, duration, error, went, inside }, came)
}

fn raised(error: &journal::RunError) -> StepError {
    match error.kind.as_str() {
        "failure" => {
            let found = error.value.value().cloned().unwrap_or_default();
            StepError::Failure(Failure::new(error.message.clone()).value(found))
        }
        kind => StepError::Exception(Exception::new(kind, error.message.clone())),
    }
}
