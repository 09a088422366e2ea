//! The event itself.

use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    id::Id,
    payload::RawPayload,
    topic::{check_name, name_hash},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use smol_str::SmolStr;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Something that happened: an immutable envelope, cheap to clone.
///
/// # Examples
/// ```
/// use railbus::{Event, json};
///
/// let event = Event::new("order.placed").topic("shop").payload(json!({"id": "A-1", "lines": 2}));
/// assert_eq!((event.event_type(), event.topic()), ("order.placed", "shop"));
/// assert_eq!(event.get("lines"), Some(2));
/// ```
#[derive(Clone, PartialEq)]
pub struct Event(pub(super) Arc<Envelope>);

#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) id: Id,
    pub(super) event_type: SmolStr,
    // None: the topic is the type.
    pub(super) topic: Option<SmolStr>,
    pub(super) source: SmolStr,
    pub(super) payload: RawPayload,
    pub(super) timestamp: Timestamp,
    // What most events go without.
    pub(super) rest: Option<Box<Rest>>,
    // Of the type: subscriptions are looked up by it at each publish.
    pub(super) hash: u64,
    // Whether the names are within their limits, so that publish need not look again.
    pub(super) valid: bool,
}

/// For how long an event is held back.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Hold {
    /// From when it is published.
    For(Duration),
    Until(Timestamp),
}

#[derive(Clone, Default, PartialEq)]
pub(super) struct Rest {
    pub(super) correlation_id: Option<String>,
    pub(super) causation_id: Option<String>,
    pub(super) key: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    // Not part of what happened: how long the backend holds the event back.
    pub(super) held: Option<Hold>,
}

impl PartialEq for Envelope {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.event_type == other.event_type
            && self.topic == other.topic
            && self.source == other.source
            && self.timestamp == other.timestamp
            && self.rest == other.rest
            && self.payload == other.payload
    }
}

impl Envelope {
    pub(super) fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }
}

impl Event {
    /// Returns the id: unique; later events of one thread have larger ones unless it was given.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.id.as_str()
    }

    /// Returns what happened, such as `order.placed`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.0.event_type
    }

    /// Returns where the event is published; the type if no topic was given.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.0.topic.as_ref().unwrap_or(&self.0.event_type)
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
        self.rest().and_then(|r| r.correlation_id.as_deref()).unwrap_or_else(|| self.id())
    }

    /// Returns the id of the event that caused this one.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.rest()?.causation_id.as_deref()
    }

    /// Returns the key: what the event is about, such as an order's number. A group that is
    /// [`ordered_by_key`](crate::bus::On::ordered_by_key) handles events of one key one after
    /// another.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.rest()?.key.as_deref()
    }

    /// Returns the version or address of the payload's schema.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.rest()?.schema.as_deref()
    }

    /// Returns the metadata: short texts that travel with the event.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.rest().map_or(&NONE, |r| &r.metadata)
    }

    /// Returns how long a backend holds the event back before anyone sees it, if it is published
    /// now.
    #[must_use]
    pub fn delay(&self) -> Option<Duration> {
        match self.rest()?.held? {
            Hold::For(delay) => Some(delay),
            Hold::Until(time) => {
                let left = time.since(Timestamp::now());
                (!left.is_zero()).then_some(left)
            }
        }
    }

    pub(super) fn rest(&self) -> Option<&Rest> {
        self.0.rest.as_deref()
    }

    /// Returns the payload as a `T`: a clone of the value that was given, or decoded.
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

    /// Returns what lies at `path` in the payload, if it is there and is a `T`, which may borrow
    /// from the event: a literal key wins over a dotted path.
    #[must_use]
    pub fn get<'a, T: serde::Deserialize<'a>>(&'a self, path: &str) -> Option<T> {
        T::deserialize(self.0.payload.at(path)?).ok()
    }

    /// Checks what a backend relies on: id, type, topic and key within their limits.
    ///
    /// # Errors
    /// Returns an invalid event error that names the field.
    #[inline]
    pub fn check(&self) -> Result<()> {
        if self.0.valid { Ok(()) } else { self.invalid() }
    }

    #[cold]
    fn invalid(&self) -> Result<()> {
        check_name("type", self.event_type())?;
        check_name("topic", self.topic())?;
        self.key().map_or(Ok(()), |key| check_name("key", key))?;
        let why = "the id must have 1 to 256 bytes";
        Err(Error::new(ErrorKind::InvalidEvent, "event", why))
    }

    /// Returns the hash of the type, made once.
    pub(crate) fn type_hash(&self) -> u64 {
        self.0.hash
    }

    /// Returns the hash of the topic, and the topic if it is not the type.
    pub(crate) fn topic_hash(&self) -> u64 {
        self.0.topic.as_deref().map_or(self.0.hash, name_hash)
    }

    /// Returns the event under another id, source and time: one that follows from what caused it.
    pub(crate) fn told_by(&self, id: &str, source: &str, timestamp: Timestamp) -> Self {
        let mut envelope = Envelope::clone(&self.0);
        envelope.id = id.into();
        envelope.source = SmolStr::new(source);
        envelope.timestamp = timestamp;
        Self(Arc::new(envelope))
    }

    /// Returns the event with this metadata in place of its own under the same keys.
    pub(crate) fn with_metadata(&self, metadata: BTreeMap<String, String>) -> Self {
        let mut with = self.clone();
        Arc::make_mut(&mut with.0).rest().metadata.extend(metadata);
        with
    }

    /// Returns the event with a source and metadata, where it does not have its own.
    pub(crate) fn marked(&self, source: &str, metadata: &BTreeMap<String, String>) -> Self {
        let mut marked = self.clone();
        let envelope = Arc::make_mut(&mut marked.0);
        if envelope.source.is_empty() {
            envelope.source = SmolStr::new(source);
        }
        for (key, value) in metadata {
            let of_event = &mut envelope.rest().metadata;
            of_event.entry(key.clone()).or_insert_with(|| value.clone());
        }
        marked
    }

    /// Returns the event with its payload as text, as if it had come from outside.
    pub(crate) fn encoded(&self) -> Result<Self> {
        let payload = RawPayload::from_json_text(self.text()?.clone());
        let Envelope { id, event_type, topic, source, timestamp, rest, .. } = &*self.0;
        Ok(Self(Arc::new(Envelope {
            id: id.clone(),
            event_type: event_type.clone(),
            topic: topic.clone(),
            source: source.clone(),
            payload,
            timestamp: *timestamp,
            rest: rest.clone(),
            hash: self.0.hash,
            valid: self.0.valid,
        })))
    }

    /// Returns the payload as text; an error names the event.
    pub(crate) fn text(&self) -> Result<&Bytes> {
        self.0.payload.text().map_err(|e| e.with("event", self.id()))
    }

    /// Sets a value of its metadata.
    pub(crate) fn set_metadata(&mut self, key: &str, value: &str) {
        let rest = Arc::make_mut(&mut self.0).rest();
        rest.metadata.insert(key.into(), value.into());
    }

    /// Returns the event as caused by another: what it says of that itself stays.
    pub(crate) fn caused_by(&self, cause: &Self, inherited: &BTreeMap<String, String>) -> Self {
        let mut caused = self.clone();
        let rest = Arc::make_mut(&mut caused.0).rest();
        rest.correlation_id.get_or_insert_with(|| cause.correlation_id().into());
        rest.causation_id.get_or_insert_with(|| cause.id().into());
        for (key, value) in inherited {
            rest.metadata.entry(key.clone()).or_insert_with(|| value.clone());
        }
        caused
    }
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
