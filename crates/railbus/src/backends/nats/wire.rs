//! How an event is written as a message: attributes as headers, the payload as it is.
//!
//! Source: CloudEvents NATS protocol binding 1.0.2, binary mode, with texts in headers percent-encoded as
//! section 3.1.3.2 of the HTTP binding says; W3C trace context has headers of its own.

use crate::{
    codec::Format,
    error::{Error, ErrorKind, Result},
    event::{Event, EventBuilder},
    payload::RawPayload,
};
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, fmt::Write};

/// The header by which the server knows an event again.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";

/// How many milliseconds an event is held back.
pub(super) const DELAY: &str = "Railbus-Delay";

/// Whose alone an event is, and in which subscription: it was handed back from the dead letters.
pub(super) const GROUP: &str = "Railbus-Group";
pub(super) const ONLY: &str = "Railbus-Only";

/// What headers of CloudEvents begin with.
const CE: &str = "ce-";

/// The metadata that has headers of its own.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// The source written for an event that names none, as in JSON.
const NO_SOURCE: &str = "urn:railbus:nobody";

/// Writes an event: its headers and its body.
///
/// # Errors
/// Returns an encode error if the payload can't be encoded.
pub(super) fn encode(format: Format, event: &Event) -> Result<(HeaderMap, Bytes)> {
    let mut headers = HeaderMap::new();
    if format != Format::CloudEvents {
        return Ok((headers, format.encode(event)?.into()));
    }
    let body = event.text()?.clone();
    if !event.raw_payload().is_given() {
        serde_json::from_slice::<&RawValue>(&body).map_err(|e| {
            let failed = Error::new(ErrorKind::Encode, "encode", "the event is not encodable");
            failed.with("event", event.id()).because(e)
        })?;
    }
    let source = if event.source().is_empty() { NO_SOURCE } else { event.source() };
    put(&mut headers, "ce-specversion", "1.0");
    put(&mut headers, "ce-id", event.id());
    put(&mut headers, "ce-type", event.event_type());
    put(&mut headers, "ce-source", source);
    put(&mut headers, "ce-time", &event.timestamp().to_string());
    let own_correlation = event.correlation_id() == event.id();
    let more = [
        ("ce-correlationid", (!own_correlation).then(|| event.correlation_id())),
        ("ce-causationid", event.causation_id()),
        ("ce-partitionkey", event.key()),
        ("ce-dataschema", event.schema()),
    ];
    for (name, value) in more {
        if let Some(value) = value {
            put(&mut headers, name, value);
        }
    }
    if !event.metadata().is_empty() {
        for name in TRACE {
            if let Some(value) = event.metadata().get(name) {
                put(&mut headers, name, value);
            }
        }
        let rest: BTreeMap<_, _> =
            event.metadata().iter().filter(|(key, _)| !TRACE.contains(&key.as_str())).collect();
        if !rest.is_empty() {
            // Texts always encode.
            put(&mut headers, "ce-metadata", &serde_json::to_string(&rest).unwrap_or_default());
        }
    }
    put(&mut headers, "content-type", "application/json");
    Ok((headers, body))
}

/// Adds a header, whatever its value is.
pub(super) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::from(&*escape(value)));
}

/// Returns a header's value as it was before it was written.
pub(super) fn get(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| unescape(value.as_str()).into_owned())
}

fn is_plain(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte) && byte != b'"' && byte != b'%'
}

fn escape(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match is_plain(byte) {
            true => out.push(char::from(byte)),
            false => drop(write!(out, "%{byte:02X}")),
        }
    }
    Cow::Owned(out)
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(super::subject::to_topic(text))
}

/// Reads an event that came on `topic`. `id` names it where its format does not.
///
/// # Errors
/// Returns a decode error that says what is missing or malformed.
pub(super) fn decode(
    format: Format,
    topic: &str,
    id: &str,
    headers: Option<&HeaderMap>,
    body: &Bytes,
) -> Result<Event> {
    match (format, headers) {
        (Format::CloudEvents, Some(headers)) if headers.get("ce-specversion").is_some() => {
            binary(topic, headers, body)
        }
        (Format::Plain, headers) => {
            let named = headers.and_then(|headers| get(headers, MESSAGE_ID));
            let event = format.decode(topic, body)?;
            // The same each time that it is delivered.
            let builder = Event::new(topic).topic(topic).id(named.as_deref().unwrap_or(id));
            Ok(builder.raw_payload(event.raw_payload().clone()))
        }
        _ => format.decode(topic, body),
    }
}

fn binary(topic: &str, headers: &HeaderMap, body: &Bytes) -> Result<Event> {
    let missing = |name: &str| {
        let why = format!("the header `ce-{name}` is missing");
        Error::new(ErrorKind::Decode, "decode", why)
    };
    let required = |name: &'static str| {
        let value = headers.get(&*format!("{CE}{name}"));
        value.map(|value| unescape(value.as_str())).ok_or_else(|| missing(name))
    };
    let version = required("specversion")?;
    if !version.starts_with("1.") {
        let why = format!("CloudEvents {version} is not known");
        return Err(Error::new(ErrorKind::Decode, "decode", why));
    }
    let mut builder = Event::new(&*required("type")?).id(&*required("id")?).topic(topic);
    let source = required("source")?;
    if source != NO_SOURCE {
        builder = builder.source(&*source);
    }
    let mut media_type = None;
    for (name, values) in headers.iter() {
        let Some(value) = values.last() else { continue };
        let (name, value): (&str, _) = (name.as_ref(), unescape(value.as_str()));
        builder = match name.strip_prefix(CE) {
            Some("specversion" | "id" | "type" | "source") => builder,
            Some("time") => builder.timestamp(value.parse()?),
            Some("topic") => builder.topic(&*value),
            Some("correlationid") => builder.correlation(value),
            Some("causationid") => builder.causation(value),
            Some("partitionkey") if value.is_empty() => builder,
            Some("partitionkey") => builder.key(&*value),
            Some("dataschema") => builder.schema(value),
            Some("metadata") => with_metadata(builder, &value)?,
            Some(name) => builder.metadata(name, value),
            None if TRACE.contains(&name) => builder.metadata(name, value),
            None if name.eq_ignore_ascii_case("content-type") => {
                media_type = Some(value.into_owned());
                builder
            }
            None => builder,
        };
    }
    payload(builder, media_type.as_deref(), body)
}

/// Reads the body as its media type says: JSON, or what is none as text.
fn payload(builder: EventBuilder, media_type: Option<&str>, body: &Bytes) -> Result<Event> {
    if body.is_empty() {
        return Ok(builder.raw_payload(RawPayload::null()));
    }
    let why = match serde_json::from_slice::<&RawValue>(body) {
        Ok(text) => {
            let text = body.slice_ref(text.get().as_bytes());
            return Ok(builder.raw_payload(RawPayload::from_json_text(text)));
        }
        Err(why) => why,
    };
    let essence = media_type.map(|all| all.split(';').next().unwrap_or_default().trim());
    let Some(essence) = essence.filter(|one| !one.ends_with("/json") && !one.ends_with("+json"))
    else {
        return Err(Error::new(ErrorKind::Decode, "decode", "the body is not JSON").because(why));
    };
    let builder = builder.metadata("datacontenttype", essence);
    Ok(match std::str::from_utf8(body) {
        Ok(text) => builder.payload(text.to_owned()),
        Err(_) => {
            builder.metadata("datacontentencoding", "base64").payload(BASE64_STANDARD.encode(body))
        }
    })
}

fn with_metadata(mut builder: EventBuilder, text: &str) -> Result<EventBuilder> {
    let metadata: BTreeMap<String, String> = serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::Decode, "decode", "ce-metadata is not a map of texts").because(e)
    })?;
    for (key, value) in metadata {
        builder = builder.metadata(key, value);
    }
    Ok(builder)
}

/// Reads headers as they lie in a stream: lines after the one that names the version.
pub(super) fn headers(raw: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(raw).split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), value.trim_start().parse::<HeaderValue>())
        else {
            continue;
        };
        headers.append(name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn again(event: &Event) -> Event {
        let (headers, body) = encode(Format::CloudEvents, event).unwrap();
        decode(Format::CloudEvents, event.topic(), "x", Some(&headers), &body).unwrap()
    }

    #[test]
    fn all_of_an_event_comes_back() {
        let builder =
            || Event::new("order.placed ü\n%").topic("shop").source("till \"1\"").key("k\r\n");
        let events = [
            builder().payload(json!({"a": [1, null]})),
            builder().correlation("c c").causation("d").schema("s/2").payload("text"),
            builder().metadata("tenant é", "a\u{0}b\n").metadata("traceparent", "00-1").payload(()),
            Event::new("a").metadata("tracestate", "t").metadata("x", "").payload(1),
        ];
        for event in &events {
            assert_eq!(again(event), *event);
        }
    }

    #[test]
    fn what_others_write_is_read_and_what_is_missing_is_told() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-type", "t")] {
            put(&mut headers, name, value);
        }
        let read = |headers: &HeaderMap, body: &'static str| {
            decode(Format::CloudEvents, "shop", "x", Some(headers), &body.into())
        };
        let error = read(&headers, "1").unwrap_err();
        assert!(error.to_string().contains("`ce-source` is missing"), "{error}");
        put(&mut headers, "ce-source", "/s");
        put(&mut headers, "ce-tenant", "acme");
        let event = read(&headers, "").unwrap();
        assert_eq!((event.topic(), &*event.metadata()["tenant"]), ("shop", "acme"));
        assert_eq!(read(&headers, "<p>").unwrap_err().kind(), ErrorKind::Decode);
        put(&mut headers, "content-type", "text/html");
        assert_eq!(read(&headers, "<p>").unwrap().payload::<String>().unwrap(), "<p>");
        put(&mut headers, "ce-specversion", "2.0");
        assert!(read(&headers, "1").is_err());
        let structured = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":7}"#;
        let event = decode(Format::CloudEvents, "shop", "x", None, &structured.into()).unwrap();
        assert_eq!((event.topic(), event.payload::<u8>().unwrap()), ("shop", 7));
    }

    #[test]
    fn a_plain_payload_is_the_same_event_each_time() {
        let read = |id| decode(Format::Plain, "lights", id, None, &"{\"on\":true}".into()).unwrap();
        assert_eq!((read("events:7").id(), read("events:7").event_type()), ("events:7", "lights"));
    }
}
