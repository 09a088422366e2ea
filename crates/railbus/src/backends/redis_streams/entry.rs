//! What is stored of an event, and how it is read back.

use super::{
    id::Id,
    script::{bytes, list},
};
use crate::{
    backend::{Leased, SharedFilter, Undecodable},
    codec,
    error::{Error, ErrorKind, Result},
    event::Event,
};
use bytes::Bytes;
use redis::Value;

/// The fields of an entry: where it was published, the event as one CloudEvent in JSON, its key, if it
/// has one, and for how many milliseconds it is held back, if it is.
pub(super) const TOPIC: &str = "topic";
pub(super) const EVENT: &str = "event";
pub(super) const KEY: &str = "key";
pub(super) const DELAY: &str = "delay";

/// An entry of the stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    topic: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
    pub(super) delay: Option<u64>,
    // What another program wrote under names of its own.
    foreign: Option<Vec<u8>>,
}

/// How an entry and an interest go together.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fit {
    Wanted,
    /// With the topic that rules it out, if it is no event.
    Unwanted(Option<String>),
}

impl Entry {
    /// Reads an entry: its id and its fields.
    pub(super) fn read(value: Value) -> Option<Self> {
        let mut parts = list(value).into_iter();
        let id = Id::read(&bytes(parts.next()?))?;
        // One that was removed while it was pending has none.
        let fields = parts.next().filter(|fields| *fields != Value::Nil)?;
        Some(Self::of(id, fields))
    }

    /// Reads the fields of an entry.
    pub(super) fn of(id: Id, fields: Value) -> Self {
        let mut entry = Self { id, topic: None, body: None, delay: None, foreign: None };
        let mut fields = list(fields).into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let (name, value) = (bytes(name), bytes(value));
            match &*name {
                b"topic" => entry.topic = Some(value),
                b"event" => entry.body = Some(value),
                // Scripts read it; here it is the event's.
                b"key" => {}
                b"delay" => {
                    entry.delay = std::str::from_utf8(&value).ok().and_then(|n| n.parse().ok());
                }
                _ => {
                    let foreign = entry.foreign.get_or_insert_default();
                    foreign.extend(name);
                    foreign.push(b'=');
                    foreign.extend(value);
                    foreign.push(b' ');
                }
            }
        }
        entry
    }

    /// Returns the topic beside the event, which says more only if the event can't be read.
    fn topic(&self) -> Option<&str> {
        std::str::from_utf8(self.topic.as_deref()?).ok()
    }

    /// Returns how many bytes there are of it.
    pub(super) fn bytes(&self) -> usize {
        [&self.topic, &self.body, &self.foreign].into_iter().flatten().map(Vec::len).sum()
    }

    /// Decodes the event, and tells whether it is wanted. What is no event, or names no topic, is
    /// wanted by everyone whose topics don't rule it out: nobody else would ever tell of it.
    pub(super) fn decode(self, wants: &SharedFilter) -> (Result<Event, Undecodable>, Fit) {
        let (raw, error) = match self.body {
            Some(body) => {
                let raw = Bytes::from(body);
                match codec::decode(&raw) {
                    Ok(event) => {
                        let fits = wants.matches(event.event_type(), event.topic());
                        let fit = if fits { Fit::Wanted } else { Fit::Unwanted(None) };
                        return (Ok(event), fit);
                    }
                    Err(error) => (raw, error),
                }
            }
            None => {
                let why = "the entry has no field `event`: another program wrote it";
                let error = Error::new(ErrorKind::Decode, "decode", why).with("entry", self.id);
                (Bytes::from(self.foreign.unwrap_or_default()), error)
            }
        };
        let topic = self.topic.and_then(|topic| String::from_utf8(topic).ok());
        let fit = match topic {
            Some(topic) if !wants.may_match(&topic) => Fit::Unwanted(Some(topic)),
            _ => Fit::Wanted,
        };
        (Err(Undecodable { raw, error }), fit)
    }

    /// Returns the event's type and topic, if it is an event.
    pub(super) fn names(&self) -> Option<(String, String)> {
        let event = codec::decode(&Bytes::copy_from_slice(self.body.as_deref()?)).ok()?;
        Some((event.event_type().into(), event.topic().into()))
    }

    /// Tells whether it is wanted.
    pub(super) fn into_wanted(self, wants: &SharedFilter) -> bool {
        !self.is_ruled_out(wants) && matches!(self.decode(wants).1, Fit::Wanted)
    }

    /// Tells whether the topic says that it is not wanted, whatever its type.
    pub(super) fn is_ruled_out(&self, wants: &SharedFilter) -> bool {
        self.topic().is_some_and(|topic| !wants.may_match(topic))
    }
}

/// Makes what is handed out.
pub(super) fn leased(
    id: Id,
    fence: u64,
    event: Result<Event, Undecodable>,
    attempt: u32,
) -> Leased {
    Leased {
        receipt: id.receipt(fence),
        event,
        attempt,
        lost: false,
        finished: Vec::new(),
        only: None,
    }
}
