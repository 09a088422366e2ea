//! What of a request becomes what of an event.

use super::{
    answer::Answer,
    cloudevents::{Mode, is_json},
    settings::{Naming, TypeOf},
    signature::hex,
};
use crate::{
    event::{Event, EventBuilder},
    payload::RawPayload,
};
use bytes::Bytes;
use hyper::{HeaderMap, header};
use ring::digest::{SHA256, digest};
use serde_json::value::RawValue;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The type of events of which nothing says another.
const TYPE: &str = "webhook";

/// How long an id may be.
const ID_MAX: usize = 256;

const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// An event, and the key under which it is known again.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) key: Arc<str>,
    pub(super) event: Event,
}

/// Tells from the head alone whether the body can be one that is read.
pub(super) fn check_head(headers: &HeaderMap) -> Result<(), Answer> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return Err(Answer::COMPRESSED);
    }
    let media_type = media_type(headers);
    match Mode::of(headers, media_type.as_deref()).is_some() || is_json(media_type.as_deref()) {
        true => Ok(()),
        false => Err(Answer::MEDIA_TYPE),
    }
}

/// Returns the media type without its parameters; one that is not text is none that is known.
fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = value.to_str().unwrap_or("?").split(';').next().unwrap_or_default();
    Some(text.trim().to_ascii_lowercase())
}

impl Naming {
    /// Reads the events that a request brings.
    pub(super) fn read(&self, headers: &HeaderMap, body: &Bytes) -> Result<Vec<Brought>, Answer> {
        let Some(mode) = Mode::of(headers, media_type(headers).as_deref()) else {
            return self.plain(headers, body).map(|one| vec![one]);
        };
        let events = mode.read(headers, body)?;
        let brought = |event: Event| {
            // Ids of CloudEvents are their source's.
            let key = format!("{} {}", event.source(), event.id());
            checked(Brought { key: key.into(), event })
        };
        events.into_iter().map(brought).collect()
    }

    fn plain(&self, headers: &HeaderMap, body: &Bytes) -> Result<Brought, Answer> {
        let text: &RawValue =
            serde_json::from_slice(body).map_err(|_| Answer::bad("the body is not JSON"))?;
        let text = text.get();
        let event_type = self.event_type(headers, text)?;
        let id = self.id(headers, text)?;
        let id = id.unwrap_or_else(|| hex(digest(&SHA256, body).as_ref()));
        let payload = match &self.payload_field {
            None => text,
            Some(path) => field(text, path)
                .map(RawValue::get)
                .ok_or(Answer::bad("the body lacks the field of the payload"))?,
        };
        let topic = self.topic.as_ref().map(|topic| topic.replace("{type}", &event_type));
        let mut event = Event::new(&event_type).id(&id).source(TYPE);
        if let Some(topic) = topic {
            event = event.topic(topic);
        }
        let payload = RawPayload::from_json_text(body.slice_ref(payload.as_bytes()));
        let event = self.with_headers(event, headers).raw_payload(payload);
        checked(Brought { key: id.into(), event })
    }

    fn event_type<'a>(
        &'a self,
        headers: &'a HeaderMap,
        text: &str,
    ) -> Result<Cow<'a, str>, Answer> {
        let of_field = |path| field(text, path).and_then(plain_text);
        match &self.event_type {
            TypeOf::All(name) => Ok(Cow::Borrowed(name)),
            TypeOf::Header(name) => headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(Cow::Borrowed)
                .ok_or(Answer::bad("the header of the event's type is missing")),
            TypeOf::Field(path) => of_field(path)
                .map(Cow::Owned)
                .ok_or(Answer::bad("the body lacks the field of the event's type")),
            TypeOf::Usual => Ok(of_field("type").map_or(Cow::Borrowed(TYPE), Cow::Owned)),
        }
    }

    fn id(&self, headers: &HeaderMap, text: &str) -> Result<Option<String>, Answer> {
        if let Some(path) = &self.id_field {
            let id = field(text, path).and_then(plain_text);
            return id.map(Some).ok_or(Answer::bad("the body lacks the field of the event's id"));
        }
        let found = self.id_headers.iter().find_map(|name| headers.get(name));
        found
            .map(|value| value.to_str().map(str::to_owned))
            .transpose()
            .map_err(|_| Answer::bad("the id is not a text"))
    }

    fn with_headers(&self, mut event: EventBuilder, headers: &HeaderMap) -> EventBuilder {
        let kept = self.keep.iter().map(|name| name.as_str()).chain(TRACE);
        for name in kept {
            if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
                event = event.metadata(name, value);
            }
        }
        event
    }
}

fn checked(brought: Brought) -> Result<Brought, Answer> {
    match brought.event.check() {
        Ok(()) => Ok(brought),
        Err(_) if !(1..=ID_MAX).contains(&brought.event.id().len()) => {
            Err(Answer::bad("the id must have 1 to 256 bytes"))
        }
        Err(_) => Err(Answer::bad("the event's type or topic is not a name")),
    }
}

/// Returns what lies at a path of keys, without looking into anything else.
fn field<'a>(text: &'a str, path: &str) -> Option<&'a RawValue> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let fields: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_str(text).ok()?;
    let found = *fields.get(key)?;
    match rest {
        Some(rest) => field(found.get(), rest),
        None => Some(found),
    }
}

/// Returns a text without its quotes, a number as it is written.
fn plain_text(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str(value.get()).ok(),
        b'0'..=b'9' | b'-' => Some(value.get().to_owned()),
        _ => None,
    }
}
