//! CloudEvents 1.0: how an event is written on every wire and in every store.
//!
//! Source: CloudEvents specification 1.0.2, JSON event format 1.0.2, section 3 (structured mode).
//! The key is the extension attribute `partitionkey`, as in the specification's partitioning
//! extension. Railbus's own are `topic`, `correlationid`, `causationid` and `metadata`: one JSON map as
//! a string, since an attribute's name may hold only lower-case letters and digits and its value no
//! object.

use super::attributes::{Read, is_plain, own};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Event, EventBuilder},
    payload::RawPayload,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The metadata that CloudEvents has attributes for, by its extension for distributed tracing.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

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
    let own_topic = event.topic() == event.event_type();
    write(event, (!own_topic).then(|| event.topic()))
}

/// Writes `event` with its topic, even if that is its type.
pub(super) fn encode_with_topic(event: &Event) -> Result<Vec<u8>> {
    write(event, Some(event.topic()))
}

/// Writes what is known to be JSON as it is: for each event on its way, this counts.
fn write(event: &Event, topic: Option<&str>) -> Result<Vec<u8>> {
    let failed = |e: serde_json::Error| {
        let failed = Error::new(ErrorKind::Encode, "encode", "the event is not encodable");
        failed.with("event", event.id()).because(e)
    };
    let mut data = &event.text()?[..];
    if !event.raw_payload().is_given() {
        // It came as text, for which somebody answers: what is around it must not suffer.
        data = serde_json::from_slice::<&RawValue>(data).map_err(failed)?.get().as_bytes();
    }
    let source = if event.source().is_empty() { NO_SOURCE } else { event.source() };
    let own_correlation = event.correlation_id() == event.id();
    let mut out = Vec::with_capacity(256 + data.len());
    out.extend_from_slice(br#"{"specversion":"1.0""#);
    let mut add = |name: &str, value: &str| {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        put_text(&mut out, value)
    };
    let mut all = || {
        add("id", event.id())?;
        add("type", event.event_type())?;
        add("source", source)?;
        match event.timestamp().text().as_ref().map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => add("time", text)?,
            _ => add("time", &event.timestamp().to_string())?,
        }
        let correlation = (!own_correlation).then(|| event.correlation_id());
        let more = [
            ("topic", topic),
            ("correlationid", correlation),
            ("causationid", event.causation_id()),
            ("partitionkey", event.key()),
            ("dataschema", event.schema()),
        ];
        for (name, value) in more {
            value.map_or(Ok(()), |value| add(name, value))?;
        }
        if event.metadata().is_empty() {
            return Ok(());
        }
        for name in TRACE {
            event.metadata().get(name).map_or(Ok(()), |value| add(name, value))?;
        }
        let rest: BTreeMap<_, _> =
            event.metadata().iter().filter(|(key, _)| !TRACE.contains(&key.as_str())).collect();
        match rest.is_empty() {
            true => Ok(()),
            false => add("metadata", &serde_json::to_string(&rest)?),
        }
    };
    all().map_err(failed)?;
    out.extend_from_slice(b",\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
    Ok(out)
}

/// Writes a text in quotes.
fn put_text(out: &mut Vec<u8>, text: &str) -> serde_json::Result<()> {
    if !text.bytes().all(is_plain) {
        return serde_json::to_writer(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    Ok(())
}

/// Reads one structured CloudEvent, whoever wrote it.
///
/// Attributes that Railbus has no field for are kept as metadata under their names. Data in Base64
/// is the JSON it holds, or where it is none the text as it stands, with `datacontentencoding` in
/// the metadata saying so.
///
/// # Examples
/// ```
/// use railbus::{ErrorKind, codec};
///
/// let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","tenant":"acme"}"#;
/// assert_eq!(codec::decode(&text.into())?.metadata()["tenant"], "acme");
///
/// let error = codec::decode(&"{\"specversion\":\"1.0\"}".into()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Decode);
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Returns a decode error that says what is missing or malformed.
pub fn decode(bytes: &Bytes) -> Result<Event> {
    decode_from(None, bytes)
}

/// Reads one structured CloudEvent that came on `topic`.
pub(super) fn decode_from(topic: Option<&str>, bytes: &Bytes) -> Result<Event> {
    let read = match std::str::from_utf8(bytes).ok().and_then(own) {
        Some(read) => read,
        None => serde_json::from_slice::<Read<'_>>(bytes).map_err(|e| {
            Error::new(ErrorKind::Decode, "decode", "not a CloudEvent in JSON").because(e)
        })?,
    };
    if !read.specversion.starts_with("1.") {
        let why = format!("CloudEvents {} is not known", read.specversion);
        return Err(Error::new(ErrorKind::Decode, "decode", why));
    }
    let mut builder = Event::new(&*read.event_type).id(&*read.id);
    if read.source != NO_SOURCE {
        builder = builder.source(&*read.source);
    }
    if let Some(topic) = topic {
        builder = builder.topic(topic);
    }
    let mut encoding = None;
    for (name, value) in read.more {
        builder = match &*name {
            "time" => builder.timestamp(value.parse()?),
            "topic" => builder.topic(&*value),
            "correlationid" => builder.correlation(value),
            "causationid" => builder.causation(value),
            // Attributes must not be empty; whoever writes one that is means none.
            "partitionkey" if value.is_empty() => builder,
            "partitionkey" => builder.key(&*value),
            "dataschema" => builder.schema(value),
            "metadata" => with_metadata(builder, &value)?,
            "datacontenttype" if is_json(&value) => builder,
            "data_base64" => {
                encoding = Some(value);
                builder
            }
            _ => builder.metadata(name, value),
        };
    }
    let payload = match (read.data, encoding) {
        (Some(data), _) => RawPayload::from_json_text(bytes.slice_ref(data.get().as_bytes())),
        (None, None) => RawPayload::null(),
        (None, Some(text)) => match json_in(&text) {
            Some(data) => RawPayload::from_json_text(data),
            None => {
                builder = builder.metadata("datacontentencoding", "base64");
                return Ok(builder.payload(text.into_owned()));
            }
        },
    };
    Ok(builder.raw_payload(payload))
}

fn with_metadata(mut builder: EventBuilder, text: &str) -> Result<EventBuilder> {
    let metadata: BTreeMap<String, String> = serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::Decode, "decode", "metadata is not a map of texts").because(e)
    })?;
    for (key, value) in metadata {
        builder = builder.metadata(key, value);
    }
    Ok(builder)
}

/// Tells whether a media type says that data is JSON, section 3.1 of the JSON event format.
fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let subtype = essence.rsplit('/').next().unwrap_or_default();
    subtype == "json" || subtype.ends_with("+json")
}

fn json_in(text: &str) -> Option<Bytes> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    serde_json::from_slice::<&RawValue>(&bytes).ok()?;
    Some(bytes.into())
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
    fn a_trace_travels_as_attributes_of_its_own_and_other_metadata_together() {
        let sent = Event::new("a").metadata("traceparent", "00-1").metadata("b", "c").payload(0);
        let text = encode(&sent).unwrap();
        let shown = String::from_utf8_lossy(&text);
        assert!(shown.contains(r#""traceparent":"00-1""#), "{shown}");
        assert!(shown.contains(r#""metadata":"{\"b\":\"c\"}""#), "{shown}");
        assert_eq!(decode(&text.into()).unwrap(), sent);
    }

    #[test]
    fn what_is_written_is_the_same_whichever_way_it_is_read() {
        let plain = Event::new("a.b").topic("shop ü").source("web").payload("x \"y\" \n");
        let events = [
            plain.clone(),
            Event::new("q\"\\\u{1}")
                .key("k\n")
                .schema("2")
                .payload(plain.raw_payload().get::<String>().unwrap()),
            Event::new("a").correlation("c").causation("d").metadata("tracestate", "t").payload(()),
            Event::new("a").raw_payload(RawPayload::from_json_text(" [1, {\"data\":2}]\n".into())),
        ];
        for event in events {
            let text = encode(&event).unwrap();
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(value["id"], event.id());
            // Another order, and spaces: not the form in which it is written.
            let spaced = serde_json::to_vec_pretty(&value).unwrap();
            assert!(own(std::str::from_utf8(&spaced).unwrap()).is_none());
            let (quick, slow) = (decode(&text.into()).unwrap(), decode(&spaced.into()).unwrap());
            assert_eq!((&quick, slow.id(), slow.topic()), (&event, event.id(), event.topic()));
            assert_eq!((slow.key(), slow.metadata()), (event.key(), event.metadata()));
        }
        assert!(own(std::str::from_utf8(&encode(&plain).unwrap()).unwrap()).is_some());
        for odd in [
            r#"{"specversion":"1.0","id":"1","type":"t","source":"/s","data":1,"x":"y"}"#,
            r#"{"specversion":"1.0","id":"1","type":"t","source":"/s","data":1}}"#,
            r#"{"specversion":"1.0","id":"1","type":"t","data":1}"#,
            r#"{"specversion":"1.0","id":"1","type":"t","source":"/s","#,
        ] {
            assert!(own(odd).is_none(), "{odd}");
        }
    }

    #[test]
    fn text_that_is_no_json_does_not_become_a_part_of_an_event() {
        let broken = RawPayload::from_json_text("1,\"id\":\"2\"".into());
        let error = encode(&Event::new("a").raw_payload(broken)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encode);
    }

    fn foreign(more: &str) -> Event {
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{more}}}"#);
        decode(&text.into()).unwrap()
    }

    #[test]
    fn attributes_of_others_are_kept_as_metadata() {
        let read =
            foreign(r#","tenant":"acme \"x\"","size":7,"is":true,"none":null,"subject":"s""#);
        let metadata: Vec<_> = read.metadata().iter().map(|(k, v)| (&**k, &**v)).collect();
        let expected = [("is", "true"), ("size", "7"), ("subject", "s"), ("tenant", "acme \"x\"")];
        assert_eq!(metadata, expected);
    }

    #[test]
    fn data_in_base64_is_the_json_it_holds_or_stays_as_it_is() {
        // {"a":1}
        let json = foreign(r#","datacontenttype":"application/json","data_base64":"eyJhIjoxfQ==""#);
        assert_eq!((json.get("a"), json.metadata().len()), (Some(1), 0));
        let binary = foreign(r#","datacontenttype":"image/png","data_base64":"iVBORw0KGgo=""#);
        assert_eq!(binary.payload::<String>().unwrap(), "iVBORw0KGgo=");
        assert_eq!(binary.metadata()["datacontenttype"], "image/png");
        assert_eq!(binary.metadata()["datacontentencoding"], "base64");
    }

    #[test]
    fn what_lacks_a_required_attribute_says_which() {
        let lacks = decode(&r#"{"specversion":"1.0","id":"1","type":"t"}"#.into()).unwrap_err();
        assert!(format!("{lacks:#} {lacks:?}").contains("source"), "{lacks:?}");
        assert!(decode(&"[1]".into()).is_err());
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
