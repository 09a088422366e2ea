//! What frames say: a task, what it came to, a log line.

use super::wire::{Frame, Kind};
use crate::{
    context::Context,
    error::{Error, ErrorKind, causes},
    event::Event,
    executor::Task,
    payload::RawPayload,
    step::{Exception, Failure, Flow, Goto, StepError, StepResult, Store},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{error::Error as StdError, fmt};

/// A task, beside the values that it needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskHead {
    pub(crate) step: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<Event>,
    pub(crate) attempt: u32,
    pub(crate) step_try: u32,
    // Each with whether it is a scope; the innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) context: Vec<(Event, bool)>,
    pub(crate) level: u8,
}

/// A log line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogHead {
    pub(crate) level: u8,
    pub(crate) target: String,
    pub(crate) message: String,
    pub(crate) fields: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
enum AnswerHead {
    Next,
    Stop,
    Skip,
    Goto { to: String, reason: String, failed: bool },
    Branch { label: String },
    Failure { message: String, found: Value, cause: Option<String> },
    Exception { kind: String, causes: Vec<String> },
}

/// Writes a task for a worker that knows its step as `key`.
///
/// # Errors
/// Returns an exception of kind `input` that names the value that can't be encoded.
pub(super) fn task(task: &Task, key: &str, level: u8) -> StepResult<Vec<u8>> {
    let input = |error: Error| StepError::Exception(Exception::new("input", error));
    let mut values = Vec::new();
    for need in task.signature.all_needs() {
        // A value that is missing is told of by whoever asks for it.
        if let Some(value) = task.store.value(task.bindings.key(&need.name)) {
            let text = value.text().map_err(|e| input(e.with("value", &need.name)))?;
            values.push((need.name.as_str(), text));
        }
    }
    let context = task.context.as_ref().map(Context::leave).unwrap_or_default();
    let (event, step) = (task.event.clone(), key.to_owned());
    let (attempt, step_try) = (task.attempt, task.step_try);
    let head = TaskHead { step, event, attempt, step_try, context, level };
    Frame::write(Kind::Task, &head, values).map_err(|why| {
        input(Error::new(ErrorKind::Encode, "worker", "the task can't be written").because(why))
    })
}

/// Returns the values of a task as a store.
pub(crate) fn store(parts: Vec<(String, Bytes)>) -> Store {
    let mut store = Store::new();
    for (name, text) in parts {
        store.keep(name, RawPayload::from_json_text(text));
    }
    store
}

/// Writes what a step came to.
pub(crate) fn answer(came: &StepResult) -> Vec<u8> {
    let (head, value) = match came {
        Ok(Flow::Next(value)) => (AnswerHead::Next, value.as_ref()),
        Ok(Flow::Stop(value)) => (AnswerHead::Stop, value.as_ref()),
        Ok(Flow::Skip) => (AnswerHead::Skip, None),
        Ok(Flow::Goto(Goto { to, value, reason, failed })) => {
            let (to, reason, failed) = (to.clone(), reason.clone(), *failed);
            (AnswerHead::Goto { to, reason, failed }, Some(value))
        }
        Ok(Flow::Branch(branch)) => {
            (AnswerHead::Branch { label: branch.label.clone() }, Some(&branch.value))
        }
        Err(StepError::Failure(no)) => {
            let (message, found) = (no.message().to_owned(), no.found().clone());
            (AnswerHead::Failure { message, found, cause: no.cause().map(Into::into) }, None)
        }
        Err(StepError::Exception(exception)) => (befell(&exception.kind, &*exception.error), None),
    };
    let text = value.map(RawPayload::text).transpose();
    let written = match &text {
        Ok(text) => Frame::write(Kind::Answer, &head, text.map(|text| ("", text))),
        Err(error) => Frame::write(Kind::Answer, &befell("output", error), []),
    };
    written.unwrap_or_else(|why| {
        let (kind, causes) = ("output".into(), vec![format!("its value can't be written: {why}")]);
        let head = AnswerHead::Exception { kind, causes };
        Frame::write(Kind::Answer, &head, []).unwrap_or_default()
    })
}

fn befell(kind: &str, error: &(dyn StdError + 'static)) -> AnswerHead {
    let causes = causes(error).map(ToString::to_string).collect();
    AnswerHead::Exception { kind: kind.to_owned(), causes }
}

/// Reads what a step came to.
///
/// # Errors
/// Returns what is wrong with the message.
pub(super) fn came(mut frame: Frame) -> Result<StepResult, String> {
    let head = frame.header()?;
    let value = frame.parts.pop().map(|(_, text)| RawPayload::from_json_text(text));
    let must = |value: Option<RawPayload>| value.unwrap_or_else(RawPayload::null);
    Ok(match head {
        AnswerHead::Next => Ok(Flow::Next(value)),
        AnswerHead::Stop => Ok(Flow::Stop(value)),
        AnswerHead::Skip => Ok(Flow::Skip),
        AnswerHead::Goto { to, reason, failed } => {
            Ok(Flow::Goto(Goto { to, value: must(value), reason, failed }))
        }
        AnswerHead::Branch { label } => {
            Ok(Flow::Branch(crate::step::Branch { label, value: must(value) }))
        }
        AnswerHead::Failure { message, found, cause } => {
            let no = Failure::new(message).value(found);
            Err(StepError::Failure(match cause {
                Some(cause) => no.because(cause),
                None => no,
            }))
        }
        AnswerHead::Exception { kind, causes } => {
            let told = causes
                .into_iter()
                .rev()
                .fold(None, |source, message| Some(Box::new(Told { message, source })));
            let told = told.unwrap_or_default();
            Err(StepError::Exception(Exception { kind, error: told }))
        }
    })
}

/// An error of another process: what it said, and what its causes said.
#[derive(Debug, Default)]
struct Told {
    message: String,
    source: Option<Box<Told>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Told {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
