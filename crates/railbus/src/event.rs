//! Events: immutable envelopes around what happened.

use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    id,
    payload::RawPayload,
    topic::check_name,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// The types that Railbus gives a name to; any other text is a type as well.
#[derive(Clone, Copy, Debug)]
pub struct Type;

impl Type {
    /// Something came into being.
    pub const CREATED: &'static str = "created";
    /// Something changed.
    pub const UPDATED: &'static str = "updated";
    /// Something ceased to be.
    pub const DELETED: &'static str = "deleted";
    /// Something was switched on.
    pub const ACTIVATED: &'static str = "activated";
    /// Something was switched off.
    pub const DEACTIVATED: &'static str = "deactivated";
    /// Something went wrong.
    pub const ERROR: &'static str = "error";
    /// Something else.
    pub const CUSTOM: &'static str = "custom";
}

/// Something that happened: an immutable envelope, cheap to clone.
#[derive(Clone, PartialEq)]
pub struct Event(Arc<Envelope>);

#[derive(Clone, PartialEq)]
struct Envelope {
    id: String,
    event_type: String,
    // None: the topic is the type.
    topic: Option<String>,
    source: String,
    payload: RawPayload,
    timestamp: Timestamp,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    schema: Option<String>,
    metadata: BTreeMap<String, String>,
    // Not part of what happened: how long the backend holds the event back.
    delay: Option<Duration>,
}

impl Event {
    /// Starts an event of `event_type`; it is ended by [`EventBuilder::payload`].
    #[allow(clippy::new_ret_no_self)]
    pub fn new(event_type: impl Into<String>) -> EventBuilder {
        EventBuilder(Envelope {
            id: id::new_id(),
            event_type: event_type.into(),
            topic: None,
            source: String::new(),
            payload: RawPayload::null(),
            timestamp: Timestamp::now(),
            correlation_id: None,
            causation_id: None,
            schema: None,
            metadata: BTreeMap::new(),
            delay: None,
        })
    }

    /// Returns the id: unique, and later events have larger ones unless it was given.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns what happened, such as `order.placed`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.0.event_type
    }

    /// Returns where the event is published; the type if no topic was given.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.0.topic.as_deref().unwrap_or(&self.0.event_type)
    }

    /// Returns who says so; empty if nobody is named.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Returns when it happened.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.0.timestamp
    }

    /// Returns the id all events of one conversation share; a root event's is its own id.
    #[must_use]
    pub fn correlation_id(&self) -> &str {
        self.0.correlation_id.as_deref().unwrap_or(&self.0.id)
    }

    /// Returns the id of the event that caused this one.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.0.causation_id.as_deref()
    }

    /// Returns the version or address of the payload's schema.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.0.schema.as_deref()
    }

    /// Returns the metadata: short texts that travel with the event.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Returns how long a backend holds the event back before anyone sees it.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        self.0.delay
    }

    /// Returns the payload as a `T`.
    ///
    /// # Errors
    /// Returns a decode error that names the event's id if the payload is not a `T`.
    pub fn payload<T: DeserializeOwned + Clone + 'static>(&self) -> Result<T> {
        self.0.payload.get().map_err(|e| e.with("event", self.id()))
    }

    /// Returns the payload as it is carried.
    #[must_use]
    pub fn raw_payload(&self) -> &RawPayload {
        &self.0.payload
    }

    /// Returns what lies at `path` in the payload, if it is there and is a `T`.
    #[must_use]
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        T::deserialize(self.0.payload.at(path)?).ok()
    }

    /// Checks what a backend relies on: id, type and topic within their limits.
    ///
    /// # Errors
    /// Returns an invalid event error that names the field.
    pub fn check(&self) -> Result<()> {
        check_name("type", self.event_type())?;
        check_name("topic", self.topic())?;
        if self.id().is_empty() || self.id().len() > 256 {
            let why = "the id must have 1 to 256 bytes";
            return Err(Error::new(ErrorKind::InvalidEvent, "event", why));
        }
        Ok(())
    }

    /// Returns the event as a JSON map: id, type, topic, source, payload, timestamp, then what is
    /// present of correlation_id, causation_id, schema and metadata.
    ///
    /// # Errors
    /// Returns an encode error if the payload can't be encoded.
    pub fn to_map(&self) -> Result<Map<String, Value>> {
        self.0.payload.text()?;
        let payload = self.0.payload.value().cloned().ok_or_else(|| {
            Error::new(ErrorKind::Encode, "encode", "the payload is nested too deeply to look into")
        })?;
        let mut map = Map::new();
        for (key, value) in [
            ("id", self.id().into()),
            ("type", self.event_type().into()),
            ("topic", self.topic().into()),
            ("source", self.source().into()),
            ("payload", payload),
            ("timestamp", self.timestamp().to_string().into()),
        ] {
            map.insert(key.into(), value);
        }
        let present = [
            ("correlation_id", &self.0.correlation_id),
            ("causation_id", &self.0.causation_id),
            ("schema", &self.0.schema),
        ];
        for (key, value) in present {
            if let Some(value) = value {
                map.insert(key.into(), value.as_str().into());
            }
        }
        if !self.0.metadata.is_empty() {
            let texts = self.0.metadata.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
            map.insert("metadata".into(), Value::Object(texts.collect()));
        }
        Ok(map)
    }

    /// Reads an event from the map that [`Event::to_map`] writes; only `type` must be there.
    ///
    /// # Errors
    /// Returns a decode error that names the field that is missing or of the wrong kind.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self> {
        serde_json::from_value(Value::Object(map.clone()))
            .map_err(|e| Error::new(ErrorKind::Decode, "event", "not an event").because(e))
    }

    /// Returns the event as one line of JSON, keys as in [`Event::to_map`]; the payload stays as it
    /// was written, to any depth.
    ///
    /// # Errors
    /// Returns an encode error if the payload can't be encoded.
    pub fn to_json(&self) -> Result<String> {
        let failed = |e: serde_json::Error| {
            Error::new(ErrorKind::Encode, "encode", "the event is not encodable").because(e)
        };
        let shown = Shown {
            id: self.id(),
            event_type: self.event_type(),
            topic: self.topic(),
            source: self.source(),
            payload: serde_json::from_slice(self.0.payload.text()?).map_err(failed)?,
            timestamp: self.timestamp().to_string(),
            correlation_id: self.0.correlation_id.as_deref(),
            causation_id: self.causation_id(),
            schema: self.schema(),
            metadata: self.metadata(),
        };
        let text = serde_json::to_string(&shown).map_err(failed)?;
        // A payload that came as text may have line ends, between its values only.
        Ok(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text })
    }
}

/// An event as JSON text, its payload as it was written.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    topic: &'a str,
    source: &'a str,
    payload: &'a RawValue,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id())
            .field("type", &self.event_type())
            .field("topic", &self.topic())
            .field("source", &self.source())
            .field("payload", &self.0.payload)
            .finish_non_exhaustive()
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_map().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

#[derive(Deserialize)]
struct Wire {
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
    topic: Option<String>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    payload: Value,
    timestamp: Option<String>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    schema: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let mut builder = Self::new(wire.event_type);
        builder.0.id = wire.id.unwrap_or(builder.0.id);
        builder.0.topic = wire.topic;
        builder.0.source = wire.source;
        if let Some(text) = wire.timestamp {
            builder.0.timestamp = text.parse().map_err(serde::de::Error::custom)?;
        }
        builder.0.correlation_id = wire.correlation_id;
        builder.0.causation_id = wire.causation_id;
        builder.0.schema = wire.schema;
        builder.0.metadata = wire.metadata;
        Ok(builder.payload(wire.payload))
    }
}

/// An event in the making; [`EventBuilder::payload`] or `into()` ends it.
#[derive(Clone)]
#[must_use = "an event in the making does nothing"]
pub struct EventBuilder(Envelope);

impl EventBuilder {
    /// Sets where the event is published (default: its type).
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.0.topic = Some(topic.into());
        self
    }

    /// Sets who says so.
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.0.source = source.into();
        self
    }

    /// Sets the id (default: a new time-ordered one).
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = id.into();
        self
    }

    /// Sets when it happened (default: now).
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.0.timestamp = timestamp;
        self
    }

    /// Sets the id of the conversation (default: the event's own id).
    pub fn correlation(mut self, id: impl Into<String>) -> Self {
        self.0.correlation_id = Some(id.into());
        self
    }

    /// Sets the id of the event that caused this one.
    pub fn causation(mut self, id: impl Into<String>) -> Self {
        self.0.causation_id = Some(id.into());
        self
    }

    /// Sets the version or address of the payload's schema.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.0.schema = Some(schema.into());
        self
    }

    /// Adds a short text that travels with the event.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.into(), value.into());
        self
    }

    /// Holds the event back: no group sees it before `delay` has passed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.0.delay = Some(delay);
        self
    }

    /// Ends the event with `payload`, kept as it is; encoding errors surface at publish.
    pub fn payload<T: Serialize + Send + Sync + 'static>(self, payload: T) -> Event {
        self.raw_payload(RawPayload::of(payload))
    }

    /// Ends the event with a payload as another event carried it.
    pub fn raw_payload(mut self, payload: RawPayload) -> Event {
        self.0.payload = payload;
        self.into()
    }
}

impl From<EventBuilder> for Event {
    fn from(EventBuilder(mut envelope): EventBuilder) -> Self {
        // What is the default is left out, so that equal events are equal however they came.
        if envelope.topic.as_ref() == Some(&envelope.event_type) {
            envelope.topic = None;
        }
        if envelope.correlation_id.as_ref() == Some(&envelope.id) {
            envelope.correlation_id = None;
        }
        Self(Arc::new(envelope))
    }
}
