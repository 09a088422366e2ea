//! What a step came to, as the journal keeps it, and back.

use super::{
    once::Came,
    report::{Inside, Jump, Visit, Went, said},
    status::StepStatus,
};
use crate::{
    journal::{self, Record, RecordStatus},
    payload::RawPayload,
    step::{Exception, Failure, Flow, StepError, Store},
};

/// Returns what is kept of a step, but for its place; nothing of one that was given up, which runs
/// again when the run goes on.
pub(super) fn kept(visit: &Visit, came: &Came, values: Store) -> Option<Record> {
    let mut record = Record::new("", 1);
    record.status = match visit.status {
        StepStatus::Success => RecordStatus::Success,
        StepStatus::Failure => RecordStatus::Failure,
        StepStatus::Exception => RecordStatus::Exception,
        StepStatus::Skipped | StepStatus::NotRun => RecordStatus::Skipped,
        StepStatus::Cancelled => return None,
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
    Some(record)
}

/// Returns what a recorded step came to, as if it had run again.
pub(super) fn again(record: &Record, node: usize) -> (Visit, Came) {
    let status = match record.status {
        RecordStatus::Failure => StepStatus::Failure,
        RecordStatus::Exception => StepStatus::Exception,
        RecordStatus::Skipped => StepStatus::Skipped,
        RecordStatus::Cancelled => StepStatus::Cancelled,
        _ => StepStatus::Success,
    };
    let (came, went) = match (&record.error, &record.went) {
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
