//! An event as a request.

use crate::{
    codec,
    error::{Error, ErrorKind, Result},
    event::Event,
    steps::http::encoded,
};
use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap};

fn unwritten(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Encode, "webhook", "the event can't be written").because(error)
}

const ID: HeaderName = HeaderName::from_static("webhook-id");

/// How an event is written into a request.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// CloudEvents, binary: the payload is the body, all else are `ce-` headers.
    #[default]
    Binary,
    /// CloudEvents, structured: one JSON document.
    Structured,
    /// The payload alone; its id is the header `webhook-id`.
    Payload,
}

impl Mode {
    /// Returns headers and body of an event.
    pub(super) fn write(self, event: &Event) -> Result<(HeaderMap, Bytes)> {
        let mut headers = HeaderMap::new();
        let mut add = |name: HeaderName, value: &str| {
            // What is encoded is printable.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        let (media_type, body) = match self {
            Self::Structured => ("application/cloudevents+json", codec::encode(event)?.into()),
            _ => ("application/json", event.raw_payload().text()?.clone()),
        };
        add(CONTENT_TYPE, media_type);
        add(ID, &encoded(event.id()));
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = event.metadata().get(name) {
                add(HeaderName::from_static(name), value);
            }
        }
        if self == Self::Binary {
            // All but the data of the document that says the same.
            let document = codec::encode(event)?;
            let all: BTreeMap<Cow<'_, str>, &RawValue> =
                serde_json::from_slice(&document).map_err(unwritten)?;
            for (name, value) in all.into_iter().filter(|(name, _)| name != "data") {
                let value: String = serde_json::from_str(value.get()).map_err(unwritten)?;
                if let Ok(name) = HeaderName::try_from(format!("ce-{name}")) {
                    add(name, &encoded(&value));
                }
            }
        }
        Ok((headers, body))
    }
}
