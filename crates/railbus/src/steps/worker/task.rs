//! What a worker is asked, and what it answers.

use crate::{
    context::{self, Trace},
    event::Event,
    step::{Flow, Input, StepError, StepResult},
    steps::answer,
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// One task, as its frame says it.
#[derive(Serialize)]
pub(in crate::steps) struct Ask<'a> {
    pub(super) id: u64,
    step: &'a str,
    input: &'a RawValue,
    event: Option<Meta<'a>>,
    attempt: u32,
    r#try: u32,
}

#[derive(Serialize)]
struct Meta<'a> {
    id: &'a str,
    r#type: &'a str,
    topic: &'a str,
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

impl<'a> Ask<'a> {
    /// Asks for the step's work with a document, which is JSON text.
    ///
    /// # Errors
    /// Returns an error if the document is not.
    pub(in crate::steps) fn new(
        step: &'a str,
        document: &'a [u8],
        input: &Input<'a>,
    ) -> serde_json::Result<Self> {
        let trace = |event: &Event| {
            let of_event = Trace::of(event.metadata());
            let parent = of_event.parent().map(str::to_owned);
            parent.or_else(|| context::current()?.trace().parent().map(str::to_owned))
        };
        let meta = |event: &'a Event| Meta {
            id: event.id(),
            r#type: event.event_type(),
            topic: event.topic(),
            correlation_id: event.correlation_id(),
            traceparent: trace(event),
        };
        Ok(Self {
            id: 0,
            step,
            input: serde_json::from_slice(document)?,
            event: input.event().map(meta),
            attempt: input.attempt(),
            r#try: input.step_try(),
        })
    }
}

/// Reads the answer to task `id`; the error says what it is instead.
pub(super) fn answered(text: &[u8], id: u64) -> Result<StepResult, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| {
        let head = String::from_utf8_lossy(&text[..text.len().min(80)]);
        format!("answered what is not one JSON document: {e}; it starts {head:?}")
    })?;
    let Value::Object(mut map) = value else {
        return Err("answered what is not an object with the task's `id`".into());
    };
    match map.shift_remove("id") {
        Some(said) if said.as_u64() == Some(id) => {}
        Some(said) => return Err(format!("answered task {said}, but was asked {id}")),
        None => return Err("answered without the task's `id`".into()),
    }
    let mut said = map.into_iter();
    let (first, more) = (said.next(), said.next());
    if let Some((key, _)) = more {
        let key = key.escape_debug();
        return Err(format!("answered more than one thing: `{key}` is one too many"));
    }
    match first {
        None => Ok(Ok(Flow::Next(None))),
        Some((key, value)) if key == "value" => Ok(Ok(Flow::next(value))),
        Some((key, said)) if key == "failure" => {
            answer::failure(&said).map(|no| Err(StepError::Failure(no)))
        }
        Some((key, said)) if key == "exception" => {
            answer::exception(&said).map(|e| Err(StepError::Exception(e)))
        }
        Some((key, _)) => {
            let known = "value, failure and exception";
            return Err(format!("answered `{}`; {known} are known", key.escape_debug()));
        }
    }
    .map_err(|why| format!("answered {why}"))
}
