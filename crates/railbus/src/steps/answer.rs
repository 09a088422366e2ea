//! What a step that is not Rust answers: one JSON document.

use crate::step::{Exception, Failure, Flow, StepError, StepResult};
use serde_json::{Map, Value};

/// Reads the answer of a step that was well: nothing, a value, or a failure or an exception as the
/// sole key of an object. The error says what it is instead.
pub(super) fn read(text: &[u8]) -> Result<StepResult, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Ok(Flow::Next(None)));
    }
    let value: Value = serde_json::from_slice(text).map_err(|e| {
        let head = String::from_utf8_lossy(&text[..text.len().min(80)]);
        format!("what is not one JSON document: {e}; it starts {head:?}")
    })?;
    let sole = match &value {
        Value::Object(map) if map.len() == 1 => map.iter().next(),
        _ => None,
    };
    match sole {
        Some((key, said)) if key == "failure" => failure(said).map(StepError::Failure),
        Some((key, said)) if key == "exception" => exception(said).map(StepError::Exception),
        _ => return Ok(Ok(Flow::next(value))),
    }
    .map(Err)
}

/// Reads a failure: a text, or an object of a message and perhaps a value.
pub(super) fn failure(said: &Value) -> Result<Failure, String> {
    let failure = match said {
        Value::String(message) => Some(Failure::new(message)),
        Value::Object(map) if has_only(map, &["message", "value"]) => {
            text(map, "message").map(|m| Failure::new(m).value(map.get("value")))
        }
        _ => None,
    };
    failure.ok_or_else(|| "a `failure` that is neither a text nor {message, value}".to_owned())
}

/// Reads an exception: an object of kind and message.
pub(super) fn exception(said: &Value) -> Result<Exception, String> {
    let map = said.as_object().filter(|map| has_only(map, &["kind", "message"]));
    let parts = map.and_then(|map| Some((text(map, "kind")?, text(map, "message")?)));
    let (kind, message) = parts.ok_or("an `exception` that is not {kind, message}")?;
    Ok(Exception::new(kind, message))
}

pub(super) fn has_only(map: &Map<String, Value>, known: &[&str]) -> bool {
    map.keys().all(|key| known.contains(&key.as_str()))
}

fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key)?.as_str().map(str::to_owned)
}
