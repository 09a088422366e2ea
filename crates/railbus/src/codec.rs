//! CloudEvents 1.0: how an event is written on every wire and in every store.
//!
//! Source: CloudEvents specification 1.0.2, JSON event format 1.0.2, section 3 (structured mode).
//! The key is the extension attribute `partitionkey`, as in the specification's partitioning
//! extension. Railbus's own are `topic`, `correlationid`, `causationid` and `metadata`: one JSON map as
//! a string, since an attribute's name may hold only lower-case letters and digits and its value no
//! object.

use crate::{
    error::{Error, ErrorKind, Result},
    event::Event,
    payload::RawPayload,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(rename = "type", borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    correlationid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    causationid: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    partitionkey: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    dataschema: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    metadata: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    datacontenttype: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

/// The source written for an event that names none: the attribute must not be empty, nor be what
/// somebody calls itself.
const NO_SOURCE: &str = "urn:railbus:nobody";

/// Writes `event` as one structured CloudEvent.
///
/// # Examples
/// ```
/// use railbus::{Event, codec};
///
/// let event = Event::new("order.placed").topic("shop").payload(7);
/// let text = codec::encode(&event)?;
/// assert!(String::from_utf8_lossy(&text).starts_with(r#"{"specversion":"1.0""#));
/// assert_eq!(codec::decode(&text.into())?, event);
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Returns an encode error if the payload can't be encoded.
pub fn encode(event: &Event) -> Result<Vec<u8>> {
    let failed = |e: serde_json::Error| {
        let failed = Error::new(ErrorKind::Encode, "encode", "the event is not encodable");
        failed.with("event", event.id()).because(e)
    };
    let data = serde_json::from_slice::<&RawValue>(event.text()?).map_err(failed)?;
    let source = if event.source().is_empty() { NO_SOURCE } else { event.source() };
    let own_correlation = event.correlation_id() == event.id();
    let own_topic = event.topic() == event.event_type();
    let wire = Wire {
        specversion: "1.0".into(),
        id: event.id().into(),
        event_type: event.event_type().into(),
        source: source.into(),
        time: Some(event.timestamp().to_string().into()),
        topic: (!own_topic).then(|| event.topic().into()),
        correlationid: (!own_correlation).then(|| event.correlation_id().into()),
        causationid: event.causation_id().map(Into::into),
        partitionkey: event.key().map(Into::into),
        dataschema: event.schema().map(Into::into),
        metadata: match event.metadata() {
            none if none.is_empty() => None,
            some => Some(serde_json::to_string(some).map_err(failed)?.into()),
        },
        datacontenttype: None,
        data: Some(data),
    };
    serde_json::to_vec(&wire).map_err(failed)
}

/// Reads one structured CloudEvent.
///
/// # Examples
/// ```
/// use railbus::{ErrorKind, codec};
///
/// let error = codec::decode(&"{\"specversion\":\"1.0\"}".into()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Decode);
/// ```
///
/// # Errors
/// Returns a decode error that says what is missing or malformed.
pub fn decode(bytes: &Bytes) -> Result<Event> {
    let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|e| {
        Error::new(ErrorKind::Decode, "decode", "not a CloudEvent in JSON").because(e)
    })?;
    if !wire.specversion.starts_with("1.") {
        let why = format!("CloudEvents {} is not known", wire.specversion);
        return Err(Error::new(ErrorKind::Decode, "decode", why));
    }
    let mut builder = Event::new(wire.event_type).id(wire.id);
    if wire.source != NO_SOURCE {
        builder = builder.source(wire.source);
    }
    if let Some(time) = wire.time {
        builder = builder.timestamp(time.parse()?);
    }
    if let Some(topic) = wire.topic {
        builder = builder.topic(topic);
    }
    if let Some(id) = wire.correlationid {
        builder = builder.correlation(id);
    }
    if let Some(id) = wire.causationid {
        builder = builder.causation(id);
    }
    if let Some(key) = wire.partitionkey.filter(|key| !key.is_empty()) {
        builder = builder.key(key);
    }
    if let Some(schema) = wire.dataschema {
        builder = builder.schema(schema);
    }
    if let Some(text) = wire.metadata {
        let metadata: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|e| {
            Error::new(ErrorKind::Decode, "decode", "metadata is not a map of texts").because(e)
        })?;
        for (key, value) in metadata {
            builder = builder.metadata(key, value);
        }
    }
    let payload = wire.data.map_or_else(RawPayload::null, |data| {
        RawPayload::from_json_text(bytes.slice_ref(data.get().as_bytes()))
    });
    Ok(builder.raw_payload(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_travels_as_the_partition_key_of_cloudevents() {
        let sent = Event::new("a").key("order 7").payload(0);
        let text = encode(&sent).unwrap();
        assert!(String::from_utf8_lossy(&text).contains(r#""partitionkey":"order 7""#));
        assert_eq!(decode(&text.into()).unwrap(), sent);
    }

    #[test]
    fn a_source_called_railbus_is_kept_and_no_source_stays_none() {
        for source in ["railbus", "", "shop"] {
            let sent = Event::new("a").source(source).payload(0);
            let read = decode(&encode(&sent).unwrap().into()).unwrap();
            assert_eq!(read.source(), source);
        }
    }
}
