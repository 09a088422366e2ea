//! An event as a message: what is written of it, and what is read.
//!
//! The body is the event, a CloudEvent in JSON. Beside it, as attributes that others can filter by, are
//! its type, its topic and its trace. What was sent by others may have attributes of its own: they become
//! metadata, unless the event has some of that name.

use super::queue::{BYTES_MAX, Parcel};
use crate::{
    backend::{Outgoing, Undecodable},
    codec::Format,
    error::{Error, ErrorKind, Result},
    event::Event,
    id::derived_id,
};
use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::{collections::BTreeMap, time::Duration};

pub(super) const TYPE: &str = "type";
pub(super) const TOPIC: &str = "topic";
const TRACE: &str = "traceparent";

/// What is written of a plain event beside its payload.
const ID: &str = "id";
const KEY: &str = "key";

/// What the names of attributes begin with that are nobody else's.
pub(super) const OWN: &str = "railbus-";

/// The one subscription whose letter was handed back.
pub(super) const ONLY: &str = "railbus-only";

/// How long a value may be that is written as an attribute.
const VALUE_MAX: usize = 1024;

/// What is known of a queue when its messages are read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) format: Format,
    /// The queue's name: the topic and type of what has none.
    pub(super) name: String,
}

/// Writes an event.
///
/// # Errors
/// Returns an error if it is malformed, can't be encoded, or is larger than SQS takes.
pub(super) fn write(
    outgoing: &Outgoing,
    payload_max: usize,
    format: Format,
    names: &[String],
) -> Result<Parcel> {
    let event = &outgoing.event;
    event.check()?;
    let bytes = event.text()?.len();
    if bytes > payload_max {
        return Err(too_large(event, bytes, payload_max));
    }
    let body = format.encode(event)?;
    let body = String::from_utf8(body).map_err(|e| {
        Error::new(ErrorKind::Encode, "publish", "the event is not UTF-8").because(e)
    })?;
    let mut attributes = Vec::new();
    let mut add = |name: &str, value: &str| {
        if is_value(value) {
            attributes.push((name.to_owned(), value.to_owned()));
        }
    };
    add(TYPE, event.event_type());
    add(TOPIC, event.topic());
    if format == Format::Plain {
        add(ID, event.id());
        event.key().into_iter().for_each(|key| add(KEY, key));
    }
    for name in names.iter().map(String::as_str).chain([TRACE]) {
        let taken = [TYPE, TOPIC, ID, KEY].contains(&name);
        if let Some(value) = event.metadata().get(name).filter(|_| !taken) {
            add(name, value);
        }
    }
    attributes.dedup_by(|a, b| a.0 == b.0);
    attributes.truncate(9);
    let parcel = Parcel { body: allowed(body), attributes, ..Parcel::default() };
    match parcel.weight() {
        bytes if bytes > BYTES_MAX => Err(too_large(event, bytes, BYTES_MAX)),
        _ => Ok(parcel),
    }
}

fn too_large(event: &Event, bytes: usize, allowed: usize) -> Error {
    let why = "the event is too large for SQS";
    Error::new(ErrorKind::TooLarge, "publish", why)
        .with("event", event.id())
        .with("bytes", bytes)
        .with("allowed", allowed)
        .hint("publish a reference to where the data is kept")
}

/// Gives a message of a FIFO queue what keeps its order, and what it is known by.
pub(super) fn in_order(parcel: Parcel, event: &Event) -> Parcel {
    let id = |text: &str| {
        let fits =
            !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { text.to_owned() } else { derived_id("railbus:sqs", text) }
    };
    let group = Some(id(event.key().unwrap_or_else(|| event.topic())));
    Parcel { group, dedup: Some(id(event.id())), ..parcel }
}

/// Tells whether a text can be the value of an attribute.
pub(super) fn is_value(text: &str) -> bool {
    let odd = |c: char| (c < ' ' && !"\t\n\r".contains(c)) || matches!(c, '\u{fffe}' | '\u{ffff}');
    !text.is_empty() && text.len() <= VALUE_MAX && !text.contains(odd)
}

/// Writes the two characters that SQS takes nowhere as JSON does otherwise.
fn allowed(body: String) -> String {
    match body.contains(['\u{fffe}', '\u{ffff}']) {
        true => body.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"),
        false => body,
    }
}

/// Reads a message.
pub(super) fn read(reading: &Reading, message: &Message) -> Result<Event, Undecodable> {
    let body = message.body().unwrap_or_default();
    let raw = bytes::Bytes::copy_from_slice(body.as_bytes());
    let attributes = texts(message);
    let topic = attributes.get(TOPIC).map_or(&*reading.name, String::as_str);
    let event = match reading.format {
        Format::Plain => plain(reading, message, &attributes),
        format => format.decode(topic, &raw),
    };
    let event = event.and_then(|event| match event.check() {
        Ok(()) => Ok(event),
        Err(error) => Err(Error::new(ErrorKind::Decode, "decode", "no event").because(error)),
    });
    match event {
        Ok(event) => Ok(with_attributes(event, &attributes)),
        Err(error) => {
            let error = error.with("message", message.message_id().unwrap_or_default());
            Err(Undecodable { raw, error })
        }
    }
}

/// Reads a payload with what is said beside it.
fn plain(
    reading: &Reading,
    message: &Message,
    attributes: &BTreeMap<String, String>,
) -> Result<Event> {
    let body = bytes::Bytes::copy_from_slice(message.body().unwrap_or_default().as_bytes());
    let get = |name: &str| attributes.get(name).map(String::as_str);
    let event_type = get(TYPE).or(get(TOPIC)).unwrap_or(&reading.name);
    let event = Format::Plain.decode(event_type, &body)?;
    let mut builder = Event::new(event_type).topic(get(TOPIC).unwrap_or(event_type));
    // The message's own is the same however often it comes.
    if let Some(id) = get(ID).or(message.message_id()) {
        builder = builder.id(id);
    }
    if let Some(key) = get(KEY).or(system(message, &MessageSystemAttributeName::MessageGroupId)) {
        builder = builder.key(key);
    }
    if let Some(millis) = number(message, &MessageSystemAttributeName::SentTimestamp) {
        builder =
            builder.timestamp(crate::clock::Timestamp::from_micros(millis.saturating_mul(1000)));
    }
    Ok(builder.raw_payload(event.raw_payload().clone()))
}

/// Adds what the sender said beside the body, where the event itself does not say it.
fn with_attributes(event: Event, attributes: &BTreeMap<String, String>) -> Event {
    let own = |name: &str| [TYPE, TOPIC, ID, KEY].contains(&name) || name.starts_with(OWN);
    let is_new = |name: &String| !own(name) && !event.metadata().contains_key(name);
    if !attributes.keys().any(is_new) {
        return event;
    }
    let mut metadata = event.metadata().clone();
    for (name, value) in attributes.iter().filter(|(name, _)| is_new(name)) {
        metadata.insert(name.clone(), value.clone());
    }
    event.with_metadata(metadata)
}

/// Returns the attributes as texts; what is binary, in Base64.
pub(super) fn texts(message: &Message) -> BTreeMap<String, String> {
    let text = |value: &MessageAttributeValue| {
        let text = value.string_value().map(str::to_owned);
        text.or_else(|| value.binary_value().map(|blob| BASE64_STANDARD.encode(blob.as_ref())))
    };
    let all = message.message_attributes().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

/// Returns what the service says of a message.
pub(super) fn system<'a>(
    message: &'a Message,
    name: &MessageSystemAttributeName,
) -> Option<&'a str> {
    message.attributes()?.get(name).map(String::as_str)
}

/// Returns a number that the service says of a message.
pub(super) fn number(message: &Message, name: &MessageSystemAttributeName) -> Option<i64> {
    system(message, name)?.parse().ok()
}

/// Returns a time as whole seconds, no shorter than it is.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
