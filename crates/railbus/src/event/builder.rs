//! An event in the making.

use super::envelope::{Envelope, Event, Hold};
use crate::{
    clock::Timestamp,
    id::Id,
    payload::RawPayload,
    topic::{check_name, name_hash},
};
use serde::Serialize;
use smol_str::SmolStr;
use std::{borrow::Borrow, sync::Arc, time::Duration};

/// An event in the making; [`EventBuilder::payload`] ends it, and so does publishing it.
///
/// # Examples
/// ```
/// use railbus::{Event, EventBuilder, clock::Timestamp, payload::RawPayload};
/// use std::time::Duration;
///
/// let draft: EventBuilder = Event::new("order.placed")
///     .id("e-1")
///     .topic("shop")
///     .source("web")
///     .timestamp("2026-01-01T00:00:00Z".parse().unwrap())
///     .correlation("c-1")
///     .causation("e-0")
///     .key("order-7")
///     .schema("2")
///     .metadata("tenant", "north")
///     .delay(Duration::from_secs(1));
/// let event = draft.raw_payload(RawPayload::of(7));
/// assert_eq!((event.id(), event.source(), event.schema()), ("e-1", "web", Some("2")));
/// assert_eq!((event.correlation_id(), event.causation_id()), ("c-1", Some("e-0")));
/// assert_eq!((&*event.metadata()["tenant"], event.key()), ("north", Some("order-7")));
/// assert_eq!(event.delay(), Some(Duration::from_secs(1)));
/// assert_eq!(event.timestamp().to_string(), "2026-01-01T00:00:00.000000Z");
/// assert_eq!(event.raw_payload().text().unwrap(), "7");
/// assert!(event.check().is_ok());
///
/// let tomorrow = Timestamp::now().after(Duration::from_secs(24 * 60 * 60));
/// let reminder = Event::new("order.due").deliver_at(tomorrow).payload(7);
/// assert!(reminder.delay().unwrap() > Duration::from_secs(23 * 60 * 60));
/// ```
#[derive(Clone)]
#[must_use = "an event in the making does nothing"]
pub struct EventBuilder(pub(super) Envelope);

impl Event {
    /// Starts an event of `event_type`; it is ended by [`EventBuilder::payload`], or by being
    /// published.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(event_type: impl AsRef<str>) -> EventBuilder {
        EventBuilder::new(event_type.as_ref())
    }
}

/// A type that Railbus itself tells of: known to be a name, and its hash with it.
#[derive(Clone, Debug)]
pub(crate) struct OwnType {
    name: SmolStr,
    hash: u64,
}

impl OwnType {
    pub(crate) fn new(name: &'static str) -> Self {
        debug_assert!(check_name("type", name).is_ok());
        Self { name: SmolStr::new_static(name), hash: name_hash(name) }
    }
}

impl Event {
    /// Makes an event of Railbus's own, with nothing left to look at.
    #[inline]
    pub(crate) fn own<T: Serialize + Send + Sync + 'static>(
        event_type: &OwnType,
        source: &SmolStr,
        payload: T,
    ) -> Self {
        let timestamp = Timestamp::now();
        Self(Arc::new(Envelope {
            id: Id::unique_at(u64::try_from(timestamp.as_micros() / 1000).unwrap_or(0)),
            event_type: event_type.name.clone(),
            topic: None,
            source: source.clone(),
            payload: RawPayload::of(payload),
            timestamp,
            rest: None,
            hash: event_type.hash,
            valid: true,
        }))
    }
}

impl EventBuilder {
    #[inline]
    fn new(event_type: &str) -> Self {
        let timestamp = Timestamp::now();
        Self(Envelope {
            id: Id::unique_at(u64::try_from(timestamp.as_micros() / 1000).unwrap_or(0)),
            event_type: SmolStr::new(event_type),
            topic: None,
            source: SmolStr::default(),
            payload: RawPayload::null(),
            timestamp,
            rest: None,
            hash: 0,
            valid: false,
        })
    }

    /// Sets where the event is published (default: its type).
    #[inline]
    pub fn topic(mut self, topic: impl AsRef<str>) -> Self {
        self.0.topic = Some(SmolStr::new(topic));
        self
    }

    /// Sets who says so.
    #[inline]
    pub fn source(mut self, source: impl AsRef<str>) -> Self {
        self.0.source = SmolStr::new(source);
        self
    }

    /// Sets the id (default: a new time-ordered one).
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        self.0.id = id.as_ref().into();
        self
    }

    /// Sets when it happened (default: now).
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.0.timestamp = timestamp;
        self
    }

    /// Sets the id of the conversation (default: that of the context it is published in, else the
    /// event's own id).
    pub fn correlation(mut self, id: impl Into<String>) -> Self {
        self.0.rest().correlation_id = Some(id.into());
        self
    }

    /// Sets the id of the event that caused this one (default: that of the context it is published
    /// in, if there is one).
    pub fn causation(mut self, id: impl Into<String>) -> Self {
        self.0.rest().causation_id = Some(id.into());
        self
    }

    /// Sets what the event is about, such as an order's number: 1 to [`NAME_MAX`](crate::topic::NAME_MAX)
    /// bytes. A group that is [`ordered_by_key`](crate::bus::On::ordered_by_key) handles events of
    /// one key one after another (default: none, which is held up by nothing).
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.rest().key = Some(key.into());
        self
    }

    /// Sets the version or address of the payload's schema.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.0.rest().schema = Some(schema.into());
        self
    }

    /// Adds a short text that travels with the event.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.rest().metadata.insert(key.into(), value.into());
        self
    }

    /// Holds the event back: nobody sees it before `delay` has passed since it was published, and
    /// until then it can be [withdrawn](crate::Bus::withdraw).
    pub fn delay(mut self, delay: Duration) -> Self {
        self.0.rest().held = Some(Hold::For(delay));
        self
    }

    /// Holds the event back until this time, as [`EventBuilder::delay`] does for what is left until
    /// then when it is published; a time in the past holds nothing back. A clock that is set after
    /// that changes nothing.
    pub fn deliver_at(mut self, time: Timestamp) -> Self {
        self.0.rest().held = Some(Hold::Until(time));
        self
    }

    /// Ends the event with `payload`, kept as it is; encoding errors surface at publish.
    #[inline]
    pub fn payload<T: Serialize + Send + Sync + 'static>(self, payload: T) -> Event {
        self.raw_payload(RawPayload::of(payload))
    }

    /// Gives it the payload without ending it: what `#[derive(Event)]` starts with.
    #[doc(hidden)]
    #[inline]
    pub fn with_payload<T: Serialize + Send + Sync + 'static>(mut self, payload: T) -> Self {
        self.0.payload = RawPayload::of(payload);
        self
    }

    /// Ends the event with a payload as another event carried it.
    #[inline]
    pub fn raw_payload(mut self, payload: RawPayload) -> Event {
        self.0.payload = payload;
        self.into()
    }
}

impl From<EventBuilder> for Event {
    #[inline]
    fn from(EventBuilder(mut envelope): EventBuilder) -> Self {
        // What is the default is left out, so that equal events are equal however they came.
        if envelope.topic.as_ref() == Some(&envelope.event_type) {
            envelope.topic = None;
        }
        if let Some(rest) = &mut envelope.rest
            && rest.correlation_id.as_deref() == Some(envelope.id.as_str())
        {
            rest.correlation_id = None;
        }
        envelope.hash = name_hash(&envelope.event_type);
        envelope.valid = is_valid(&envelope);
        Self(Arc::new(envelope))
    }
}

fn is_valid(envelope: &Envelope) -> bool {
    let id = match &envelope.id {
        Id::Unique(..) => true,
        Id::Text(id) => (1..=256).contains(&id.len()),
    };
    let topic = envelope.topic.as_ref().is_none_or(|topic| check_name("topic", topic).is_ok());
    let key = envelope.rest.as_ref().and_then(|rest| rest.key.as_deref());
    let key = key.is_none_or(|key| check_name("key", key).is_ok());
    id && topic && key && check_name("type", &envelope.event_type).is_ok()
}

/// What can be published: an [`Event`], a reference to one, an [`EventBuilder`], a type with its
/// payload, `("order.placed", order)`, or a type with `#[derive(Event)]`.
///
/// # Examples
/// ```
/// use railbus::{Event, IntoEvent};
/// use std::borrow::Borrow;
///
/// /// Publishes to nobody.
/// fn type_of(event: impl IntoEvent) -> String {
///     let event = event.into_event();
///     Borrow::<Event>::borrow(&event).event_type().to_owned()
/// }
/// let event = Event::new("order.placed").payload(7);
/// assert_eq!(type_of(&event), "order.placed");
/// assert_eq!(type_of(Event::new("order.placed")), "order.placed");
/// assert_eq!(type_of(("order.placed", 7)), "order.placed");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be published",
    label = "not an event",
    note = "publish an Event, such as `Event::new(\"order.placed\").payload(order)`",
    note = "or a type with `#[derive(Serialize, Deserialize, Event)] #[event(\"order.placed\")]`"
)]
pub trait IntoEvent {
    /// The event, or a reference to it.
    type Held: Borrow<Event> + Send;

    /// Makes it an event.
    fn into_event(self) -> Self::Held;
}

impl IntoEvent for Event {
    type Held = Self;

    fn into_event(self) -> Self {
        self
    }
}

impl<'a> IntoEvent for &'a Event {
    type Held = &'a Event;

    fn into_event(self) -> Self {
        self
    }
}

impl<T: Serialize + Send + Sync + 'static> IntoEvent for (&str, T) {
    type Held = Event;

    fn into_event(self) -> Event {
        Event::new(self.0).payload(self.1)
    }
}

impl IntoEvent for EventBuilder {
    type Held = Event;

    fn into_event(self) -> Event {
        self.into()
    }
}
