//! CloudEvents over HTTP: an event whose attributes are headers, one that is a document, or many.
//!
//! Source: CloudEvents specification 1.0.2, HTTP protocol binding 1.0.2, sections 3.1 to 3.3.

use super::{answer::Answer, secret::to_base64};
use crate::{codec, event::Event};
use bytes::Bytes;
use hyper::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, value::RawValue};

/// How many events one request may bring.
const BATCH_MAX: usize = 1000;

const NO_EVENT: Answer = Answer::bad("the request is not a CloudEvent of version 1.0");
const NO_BATCH: Answer = Answer::bad("the body is not a batch of CloudEvents");
const TOO_MANY: Answer =
    Answer::said(StatusCode::PAYLOAD_TOO_LARGE, "there are too many events in the batch");

/// Which of the binding's modes a request is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Binary,
    Structured,
    Batched,
}

impl Mode {
    /// Returns the mode of a request; none if it is no CloudEvent.
    pub(super) fn of(headers: &HeaderMap, media_type: Option<&str>) -> Option<Self> {
        match media_type {
            Some("application/cloudevents+json") => Some(Self::Structured),
            Some("application/cloudevents-batch+json") => Some(Self::Batched),
            _ => headers.contains_key("ce-specversion").then_some(Self::Binary),
        }
    }

    pub(super) fn read(self, headers: &HeaderMap, body: &Bytes) -> Result<Vec<Event>, Answer> {
        match self {
            Self::Binary => binary(headers, body).map(|event| vec![event]),
            Self::Structured => codec::decode(body).map(|event| vec![event]).map_err(|_| NO_EVENT),
            Self::Batched => {
                let all: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| NO_BATCH)?;
                if all.len() > BATCH_MAX {
                    return Err(TOO_MANY);
                }
                let one = |raw: &RawValue| codec::decode(&body.slice_ref(raw.get().as_bytes()));
                let events = all.into_iter().map(one).collect::<Result<_, _>>();
                events.map_err(|_| NO_BATCH)
            }
        }
    }
}

/// Reads an event from headers and body, by way of the document that says the same.
fn binary(headers: &HeaderMap, body: &Bytes) -> Result<Event, Answer> {
    let mut document = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let value = value.to_str().ok().and_then(decoded).ok_or(NO_EVENT)?;
        document.insert(name.to_owned(), Value::String(value));
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(media_type) = media_type {
        document.insert("datacontenttype".into(), media_type.into());
    }
    // What a document has and an attribute can't be.
    if document.contains_key("data") || document.contains_key("data_base64") {
        return Err(NO_EVENT);
    }
    let mut text = serde_json::to_vec(&document).map_err(|_| NO_EVENT)?;
    text.pop();
    let data = std::str::from_utf8(body).ok();
    let data = data.filter(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    match (body.is_empty(), is_json(media_type), data) {
        (true, ..) => {}
        (_, true, Some(data)) => {
            text.extend_from_slice(b",\"data\":");
            text.extend_from_slice(data.as_bytes());
        }
        (_, true, None) => return Err(Answer::bad("the body is not JSON")),
        (_, false, _) => {
            text.extend_from_slice(b",\"data_base64\":\"");
            text.extend_from_slice(to_base64(body).as_bytes());
            text.push(b'"');
        }
    }
    text.push(b'}');
    codec::decode(&text.into()).map_err(|_| NO_EVENT)
}

/// Tells whether a media type is JSON; one that is not said is.
pub(super) fn is_json(media_type: Option<&str>) -> bool {
    let Some(media_type) = media_type else { return true };
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let subtype = essence.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}

/// Decodes the percent codes of an attribute.
fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match (first, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    const PLAIN: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "a%20b"), ("ce-type", "t.x"), ("ce-source", "/s")];

    #[test]
    fn attributes_are_headers_in_binary_mode() {
        let mut all = PLAIN.to_vec();
        all.extend([("ce-partitionkey", "Euro%20%E2%82%AC"), ("content-type", "application/json")]);
        let event = binary(&headers(&all), &"{\"a\":1}".into()).unwrap();
        assert_eq!((event.id(), event.event_type(), event.source()), ("a b", "t.x", "/s"));
        assert_eq!((event.key(), event.get::<u8>("a")), (Some("Euro €"), Some(1)));
        let empty = binary(&headers(&PLAIN), &Bytes::new()).unwrap();
        assert_eq!(empty.payload::<Value>().unwrap(), Value::Null);
        let mut image = PLAIN.to_vec();
        image.push(("content-type", "image/png"));
        let event = binary(&headers(&image), &Bytes::from_static(&[0x89, 0x50])).unwrap();
        assert_eq!(event.payload::<String>().unwrap(), "iVA=");
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let json = ("content-type", "application/json");
        let mut forged = PLAIN.to_vec();
        forged.extend([json, ("ce-data", "1")]);
        assert!(binary(&headers(&forged), &"1".into()).is_err());
        let mut broken = PLAIN.to_vec();
        broken.push(json);
        // What would close the document early and add to it.
        let smuggled = "1,\"id\":\"2\"";
        assert!(binary(&headers(&broken), &smuggled.into()).is_err());
        assert!(binary(&headers(&PLAIN[..3]), &Bytes::new()).is_err(), "it has no source");
        let batch = |text: String| Mode::Batched.read(&HeaderMap::new(), &text.into());
        assert_eq!(batch("[]".into()).unwrap().len(), 0);
        assert_eq!(batch("{}".into()).unwrap_err(), NO_BATCH);
        assert_eq!(batch("[1]".into()).unwrap_err(), NO_BATCH);
        assert_eq!(batch(format!("[{}1]", "1,".repeat(BATCH_MAX))).unwrap_err(), TOO_MANY);
    }
}
