//! Entries of plain fields, as `redis-cli` and programs of others write them, and as they are written
//! for those (`format=plain`).
//!
//! A field `payload`, or `data`, is the payload, and what else there is becomes metadata; without one,
//! all fields together are the payload. `id`, `type`, `topic`, `key`, `source` and `time` mean what they
//! mean in an event. Values are JSON, or where they are none, text.

use super::id::Id;
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    event::{Event, EventBuilder},
    payload::RawPayload,
};
use redis::Cmd;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// How many words the fields of an event are.
pub(super) const WORDS: usize = 8;

/// The fields that are the payload, the first of them that is there.
const PAYLOADS: [&str; 2] = ["payload", "data"];

/// A field and its value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// Writes the fields of an event that all have, but its topic.
pub(super) fn write(command: &mut Cmd, event_type: &str, id: &str, time: &str, payload: &[u8]) {
    command.arg("type").arg(event_type).arg("id").arg(id).arg("time").arg(time);
    command.arg(PAYLOADS[0]).arg(payload);
}

/// Makes an event of the fields at a place of a stream; a topic is its own, or else its type, and its
/// type is its topic, or else the stream's name.
///
/// # Errors
/// Returns a decode error if a field is no text, or a name can be none of an event's.
pub(super) fn read(id: Id, stream: &str, topic: Option<&str>, fields: &[Field]) -> Result<Event> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in fields {
        let text = |part| {
            std::str::from_utf8(part).map_err(|e| {
                let why = "a field is not UTF-8";
                Error::new(ErrorKind::Decode, "decode", why).with("entry", id).because(e)
            })
        };
        all.insert(text(name)?, text(value)?);
    }
    let mut take = |name: &str| all.remove(name).filter(|value| !value.is_empty());
    let event_type = take("type").or(topic).unwrap_or(stream);
    let mut builder = Event::new(event_type).id(take("id").unwrap_or(&id.to_string()));
    if let Some(topic) = topic {
        builder = builder.topic(topic);
    }
    if let Some(source) = take("source") {
        builder = builder.source(source);
    }
    if let Some(key) = take("key") {
        builder = builder.key(key);
    }
    let then = i64::try_from(id.ms).unwrap_or(0).saturating_mul(1000);
    let time = take("time").and_then(|time| time.parse().ok());
    builder = builder.timestamp(time.unwrap_or(Timestamp::from_micros(then)));
    let payload = PAYLOADS.iter().find_map(|name| all.remove(name));
    let event = match payload {
        Some(payload) => with_metadata(builder, &all).raw_payload(raw(&json(payload))),
        None => {
            let map: BTreeMap<_, _> =
                all.iter().map(|(name, value)| (*name, json(value))).collect();
            builder.raw_payload(raw(&to_json(&map)))
        }
    };
    event.check().map_err(|e| {
        Error::new(ErrorKind::Decode, "decode", "the fields are no event's").because(e)
    })?;
    Ok(event)
}

fn with_metadata(builder: EventBuilder, all: &BTreeMap<&str, &str>) -> EventBuilder {
    all.iter().fold(builder, |builder, (name, value)| builder.metadata(*name, *value))
}

/// Returns the value as JSON: what it is, or as a text.
fn json(value: &str) -> Box<RawValue> {
    let is = RawValue::from_string(value.trim().to_owned());
    is.unwrap_or_else(|_| to_json(value))
}

fn to_json(value: &(impl serde::Serialize + ?Sized)) -> Box<RawValue> {
    // Texts and maps of texts always encode.
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn raw(value: &RawValue) -> RawPayload {
    RawPayload::from_json_text(value.get().to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(topic: Option<&str>, fields: &[(&str, &str)]) -> Event {
        let fields: Vec<Field> = fields.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        read(Id { ms: 5, seq: 1 }, "events", topic, &fields).unwrap()
    }

    #[test]
    fn fields_are_the_payload_unless_one_says_that_it_is() {
        let all = event(None, &[("sensor", "s7"), ("degrees", "21.5"), ("on", "true")]);
        assert_eq!((all.event_type(), all.topic(), all.id()), ("events", "events", "5-1"));
        let text = all.raw_payload().text().unwrap().clone();
        assert_eq!(text, r#"{"degrees":21.5,"on":true,"sensor":"s7"}"#);
        assert_eq!(all.timestamp(), Timestamp::from_micros(5000));
        let one = event(
            Some("shop"),
            &[("data", " [1, 2]"), ("id", "e"), ("key", "k"), ("trace", "7"), ("source", "till")],
        );
        assert_eq!((one.event_type(), one.topic(), one.id()), ("shop", "shop", "e"));
        assert_eq!((one.key(), one.source(), &*one.metadata()["trace"]), (Some("k"), "till", "7"));
        assert_eq!(one.payload::<[u8; 2]>().unwrap(), [1, 2]);
        let typed = event(None, &[("type", "order.placed"), ("payload", "no JSON")]);
        assert_eq!(
            (typed.topic(), &*typed.payload::<String>().unwrap()),
            ("order.placed", "no JSON")
        );
    }

    #[test]
    fn what_is_no_text_or_no_name_is_refused() {
        let id = Id { ms: 5, seq: 1 };
        for field in [(b"a".to_vec(), vec![0xff]), (b"type".to_vec(), b"a\0b".to_vec())] {
            let error = read(id, "events", None, &[field]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
        }
    }
}
