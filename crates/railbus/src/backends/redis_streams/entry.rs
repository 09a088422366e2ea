//! What is stored of an event, and how it is read back.

use super::{
    frame::Frame,
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

/// The fields of an entry: where it was published, the event as one CloudEvent in JSON, and for how
/// many milliseconds it is held back, if it is.
pub(super) const TOPIC: &str = "topic";
pub(super) const EVENT: &str = "event";
pub(super) const DELAY: &str = "delay";

/// How long an answer may be whose events share its bytes: who keeps one of them keeps all of it.
const SHARED_MAX: usize = 64 << 10;

/// An entry of the stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    topic: Option<Bytes>,
    body: Option<Bytes>,
    pub(super) delay: Option<u64>,
    // What another program wrote under names of its own.
    foreign: Option<Vec<u8>>,
}

/// How an entry and an interest go together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fit {
    Wanted,
    Unwanted,
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
                b"topic" => entry.topic = Some(value.into()),
                b"event" => entry.body = Some(value.into()),
                _ => entry.note(&name, &value),
            }
        }
        entry
    }

    /// Reads all entries of an answer that stayed as it came; none if it is not what a read answers.
    pub(super) fn read_all(answer: &Bytes) -> Option<Vec<Self>> {
        let mut frame = Frame::new(answer);
        let part = |text: &[u8]| match answer.len() <= SHARED_MAX {
            true => answer.slice_ref(text),
            false => Bytes::copy_from_slice(text),
        };
        let mut all = Vec::new();
        for _ in 0..frame.count(b'%')? {
            frame.text()?;
            let count = frame.count(b'*')?;
            all.reserve(count.min(answer.len()));
            for _ in 0..count {
                frame.count(b'*').filter(|parts| *parts == 2)?;
                let id = Id::read(frame.text()?)?;
                // One that was removed while it was pending has no fields.
                if frame.null() {
                    continue;
                }
                let mut entry = Self { id, topic: None, body: None, delay: None, foreign: None };
                for _ in 0..frame.count(b'*')? / 2 {
                    match (frame.text()?, frame.text()?) {
                        (b"topic", value) => entry.topic = Some(part(value)),
                        (b"event", value) => entry.body = Some(part(value)),
                        (name, value) => entry.note(name, value),
                    }
                }
                all.push(entry);
            }
        }
        Some(all)
    }

    /// Notes a field that few entries have.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        if name == DELAY.as_bytes() {
            self.delay = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok());
            return;
        }
        let foreign = self.foreign.get_or_insert_default();
        foreign.extend(name);
        foreign.push(b'=');
        foreign.extend(value);
        foreign.push(b' ');
    }

    /// Tells whether the topic rules it out, so that it need not be decoded.
    fn topic(&self) -> Option<&str> {
        std::str::from_utf8(self.topic.as_deref()?).ok()
    }

    /// Decodes the event, and tells whether it is wanted. What is no event, or names no topic, is
    /// wanted by everyone whose topics don't rule it out: nobody else would ever tell of it.
    pub(super) fn decode(self, wants: &SharedFilter) -> (Result<Event, Undecodable>, Fit) {
        let (raw, error) = match &self.body {
            Some(raw) => match codec::decode(raw) {
                Ok(event) => {
                    let fits = wants.matches(event.event_type(), event.topic());
                    let fit = if fits { Fit::Wanted } else { Fit::Unwanted };
                    return (Ok(event), fit);
                }
                Err(error) => (raw.clone(), error),
            },
            None => {
                let why = "the entry has no field `event`: another program wrote it";
                let error = Error::new(ErrorKind::Decode, "decode", why).with("entry", self.id);
                (self.foreign.clone().unwrap_or_default().into(), error)
            }
        };
        let fit = if self.is_ruled_out(wants) { Fit::Unwanted } else { Fit::Wanted };
        (Err(Undecodable { raw, error }), fit)
    }

    /// Returns the event's type and topic, if it is an event.
    pub(super) fn names(&self) -> Option<(String, String)> {
        let event = codec::decode(self.body.as_ref()?).ok()?;
        Some((event.event_type().into(), event.topic().into()))
    }

    /// Tells whether it is wanted.
    pub(super) fn into_wanted(self, wants: &SharedFilter) -> bool {
        !self.is_ruled_out(wants) && self.decode(wants).1 == Fit::Wanted
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
