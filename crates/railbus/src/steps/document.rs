//! What a step that is not Rust is given: one JSON document.

use crate::{
    error::{Error, ErrorKind},
    event::Event,
    payload::RawPayload,
    step::{Exception, Input, Signature, StepError, StepResult},
};
use bytes::Bytes;
use serde_json::Value;

/// The name of what is piped to a step that names no input.
const PIPED: &str = "input";

/// Which values make the document: those of these names, as an object by name; without names what
/// was piped, else the event's payload, bare.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Document(Option<Vec<String>>);

impl Document {
    /// Makes it of the values of these names, each once.
    pub(super) fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for name in names.into_iter().map(Into::into) {
            if !all.contains(&name) {
                all.push(name);
            }
        }
        Self(Some(all))
    }

    /// Adds what it is made of to the step's signature.
    pub(super) fn sign(&self, signature: Signature) -> Signature {
        match &self.0 {
            Some(names) => names.iter().fold(signature, |all, name| all.needs::<Value>(name)),
            None => signature.takes::<Value>(PIPED),
        }
    }

    /// Returns its JSON text.
    ///
    /// # Errors
    /// Returns an exception of kind `input` if there is nothing to make it of, or of kind `encode`
    /// if a value can't be encoded.
    pub(super) fn text(&self, input: &Input<'_>) -> StepResult<Bytes> {
        let Some(names) = &self.0 else {
            let payload = input.value(PIPED).or_else(|| input.event().map(Event::raw_payload));
            return encoded(PIPED, payload.ok_or_else(no_input)?).cloned();
        };
        let mut text = vec![b'{'];
        for name in names {
            // What it is missing is said as for any other step.
            let Some(value) = input.value(name) else { return Err(missing(input, name)) };
            if text.len() > 1 {
                text.push(b',');
            }
            text.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
            text.push(b':');
            text.extend_from_slice(encoded(name, value)?);
        }
        text.push(b'}');
        Ok(text.into())
    }
}

fn encoded<'a>(name: &str, value: &'a RawPayload) -> StepResult<&'a Bytes> {
    let failed = |e: Error| StepError::Exception(Exception::new("encode", e.with("name", name)));
    value.text().map_err(failed)
}

fn missing(input: &Input<'_>, name: &str) -> StepError {
    match input.get::<Value>(name) {
        Err(error) => error,
        Ok(_) => no_input(),
    }
}

fn no_input() -> StepError {
    let why = "nothing was piped to the step, and no event caused this run";
    let error = Error::new(ErrorKind::NotFound, "input", why)
        .hint("say which values it takes: .input([\"order\"]), or input = [\"order\"]");
    StepError::Exception(Exception::new("input", error))
}
