//! The payload alone, as people and small programs publish it.

use crate::{
    error::{Error, ErrorKind, Result},
    event::Event,
    payload::RawPayload,
};
use bytes::Bytes;
use serde_json::value::RawValue;

/// Writes the payload of `event`; all else is left behind.
pub(super) fn encode(event: &Event) -> Result<Vec<u8>> {
    Ok(event.text()?.to_vec())
}

/// Reads a payload that came on `topic`, which is the event's type as well.
pub(super) fn decode(topic: &str, bytes: &Bytes) -> Result<Event> {
    let text: &RawValue = serde_json::from_slice(bytes).map_err(|e| {
        Error::new(ErrorKind::Decode, "decode", "not JSON").with("format", "plain").because(e)
    })?;
    let payload = RawPayload::from_json_text(bytes.slice_ref(text.get().as_bytes()));
    Ok(Event::new(topic).raw_payload(payload))
}
