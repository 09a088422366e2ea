//! Events as `dataknobs_common.events` writes and reads them.
//!
//! Source: `Event.to_dict` and `Event.from_dict` of dataknobs-common. It knows seven types and drops
//! an event of any other, its payload is a map, and it has no field for what caused an event, its
//! schema and its key. So that nothing is lost between two programs that both use Railbus, what has
//! no field goes into its `metadata`, under names that begin with `railbus_`.

use crate::{
    error::{Error, ErrorKind, Result},
    event::{Event, Type},
    payload::RawPayload,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use std::{borrow::Cow, collections::BTreeMap};

/// The types that it knows.
const KNOWN: [&str; 7] = [
    Type::CREATED,
    Type::UPDATED,
    Type::DELETED,
    Type::ACTIVATED,
    Type::DEACTIVATED,
    Type::ERROR,
    Type::CUSTOM,
];

/// The names in its metadata of what it has no field for.
const TYPE: &str = "railbus_type";
const BARE: &str = "railbus_bare";
const CAUSATION: &str = "railbus_causation";
const SCHEMA: &str = "railbus_schema";
const KEY: &str = "railbus_key";
const OWN: [&str; 5] = [TYPE, BARE, CAUSATION, SCHEMA, KEY];

/// Under which key a payload goes that is no map.
const BODY: &str = "body";

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    topic: &'a str,
    payload: Payload<'a>,
    timestamp: String,
    event_id: &'a str,
    source: Option<&'a str>,
    correlation_id: Option<&'a str>,
    metadata: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Map(&'a RawValue),
    Bare { body: &'a RawValue },
}

/// Writes `event` as its map, keys in its order.
pub(super) fn encode(event: &Event) -> Result<Vec<u8>> {
    let failed = |e: serde_json::Error| {
        let failed = Error::new(ErrorKind::Encode, "encode", "the event is not encodable");
        failed.with("event", event.id()).with("format", "dataknobs").because(e)
    };
    if let Some(own) = OWN.iter().find(|own| event.metadata().contains_key(**own)) {
        let why = format!("the metadata has `{own}`, which is the format's own");
        return Err(Error::new(ErrorKind::InvalidEvent, "encode", why)
            .with("event", event.id())
            .with("format", "dataknobs")
            .hint("give the attribute another name"));
    }
    let payload: &RawValue = serde_json::from_slice(event.text()?).map_err(failed)?;
    let is_map = payload.get().starts_with('{');
    let is_known = KNOWN.contains(&event.event_type());
    let mut metadata: BTreeMap<_, _> =
        event.metadata().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let more = [
        (TYPE, (!is_known).then(|| event.event_type())),
        (BARE, (!is_map).then_some("true")),
        (CAUSATION, event.causation_id()),
        (SCHEMA, event.schema()),
        (KEY, event.key()),
    ];
    metadata.extend(more.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let own_correlation = event.correlation_id() == event.id();
    serde_json::to_vec(&Written {
        event_type: if is_known { event.event_type() } else { Type::CUSTOM },
        topic: event.topic(),
        payload: if is_map { Payload::Map(payload) } else { Payload::Bare { body: payload } },
        timestamp: event.timestamp().to_string(),
        event_id: event.id(),
        source: Some(event.source()).filter(|source| !source.is_empty()),
        correlation_id: (!own_correlation).then(|| event.correlation_id()),
        metadata,
    })
    .map_err(failed)
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(default, borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    payload: Option<&'a RawValue>,
    #[serde(default, borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    event_id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

/// Reads its map; `topic` is where it came if the map does not say.
pub(super) fn decode(topic: &str, bytes: &Bytes) -> Result<Event> {
    let read: Read<'_> = serde_json::from_slice(bytes).map_err(|e| {
        let why = "not an event of dataknobs in JSON";
        Error::new(ErrorKind::Decode, "decode", why).with("format", "dataknobs").because(e)
    })?;
    let mut metadata = read.metadata.unwrap_or_default();
    let mut own = |key: &str| match metadata.shift_remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let (event_type, bare) = (own(TYPE), own(BARE).is_some());
    let (causation, schema, key) = (own(CAUSATION), own(SCHEMA), own(KEY));
    let event_type = event_type.map_or(read.event_type, Cow::Owned);
    let mut builder = Event::new(event_type).topic(read.topic.as_deref().unwrap_or(topic));
    if let Some(id) = read.event_id {
        builder = builder.id(id);
    }
    if let Some(source) = read.source {
        builder = builder.source(source);
    }
    if let Some(text) = read.timestamp {
        builder = builder.timestamp(with_zone(&text).parse()?);
    }
    if let Some(id) = read.correlation_id {
        builder = builder.correlation(id);
    }
    if let Some(id) = causation {
        builder = builder.causation(id);
    }
    if let Some(schema) = schema {
        builder = builder.schema(schema);
    }
    if let Some(key) = key {
        builder = builder.key(key);
    }
    for (key, value) in metadata {
        builder = builder.metadata(key, as_text(value));
    }
    let payload = read.payload.map_or_else(
        || Ok(RawPayload::null()),
        |payload| inner(payload, bare).map(|text| text_of(bytes, text)),
    )?;
    Ok(builder.raw_payload(payload))
}

/// Returns the payload as it was before it was put into a map.
fn inner(payload: &RawValue, bare: bool) -> Result<&RawValue> {
    if !bare {
        return Ok(payload);
    }
    let map: BTreeMap<&str, &RawValue> = serde_json::from_str(payload.get())
        .map_err(|e| Error::new(ErrorKind::Decode, "decode", "the payload is no map").because(e))?;
    Ok(map.get(BODY).copied().unwrap_or(payload))
}

fn text_of(bytes: &Bytes, text: &RawValue) -> RawPayload {
    RawPayload::from_json_text(bytes.slice_ref(text.get().as_bytes()))
}

/// Python writes a time without a zone where it knows none; it is taken for UTC.
fn with_zone(text: &str) -> Cow<'_, str> {
    let clock = text.split_once(['T', ' ']).map_or("", |(_, clock)| clock);
    match clock.contains(['Z', 'z', '+', '-']) {
        true => text.into(),
        false => format!("{text}Z").into(),
    }
}

/// Metadata are texts here, and anything there.
fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_would_be_taken_for_the_formats_own_is_refused() {
        let event = Event::new("a").metadata("railbus_type", "b").payload(1);
        let error = encode(&event).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidEvent);
        assert!(error.to_string().contains("railbus_type"), "{error}");
    }
}
