//! What is stored of an event, and how it is read back.

use super::{
    frame::Frame,
    id::Id,
    keys::Keys,
    plain::{self, Field},
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
use std::sync::Arc;

/// The fields of an entry: where it was published, the event as one CloudEvent in JSON, its key, if it
/// has one, for how many milliseconds it is held back, if it is, and which run published it.
pub(super) const TOPIC: &str = "topic";
pub(super) const EVENT: &str = "event";
pub(super) const KEY: &str = "key";
pub(super) const DELAY: &str = "delay";
pub(super) const RUN: &str = "railbus_run";

/// How long an answer may be whose events share its bytes: who keeps one of them keeps all of it.
const SHARED_MAX: usize = 64 << 10;

/// An entry of the stream.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    topic: Option<Bytes>,
    body: Option<Bytes>,
    pub(super) delay: Option<u64>,
    pub(super) run: Option<i64>,
    // What another program wrote under names of its own.
    others: Vec<Field>,
    // The stream's name, where such entries are events as well.
    plain: Option<Arc<str>>,
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
    pub(super) fn read(value: Value, keys: &Keys) -> Option<Self> {
        let mut parts = list(value).into_iter();
        let id = Id::read(&bytes(parts.next()?))?;
        // One that was removed while it was pending has none.
        let fields = parts.next().filter(|fields| *fields != Value::Nil)?;
        Some(Self::of(id, fields, keys))
    }

    /// Reads the fields of an entry.
    pub(super) fn of(id: Id, fields: Value, keys: &Keys) -> Self {
        let mut entry = Self::empty(id, keys);
        let mut fields = list(fields).into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let (name, value) = (bytes(name), bytes(value));
            match &*name {
                b"topic" => entry.topic = Some(value.into()),
                b"event" => entry.body = Some(value.into()),
                _ => entry.note(name, value),
            }
        }
        entry
    }

    /// Reads all entries of an answer that stayed as it came; none if it is not what a read answers.
    pub(super) fn read_all(answer: &Bytes, keys: &Keys) -> Option<Vec<Self>> {
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
                let mut entry = Self::empty(id, keys);
                for _ in 0..frame.count(b'*')? / 2 {
                    match (frame.text()?, frame.text()?) {
                        (b"topic", value) => entry.topic = Some(part(value)),
                        (b"event", value) => entry.body = Some(part(value)),
                        (name, value) => entry.note(name.into(), value.into()),
                    }
                }
                all.push(entry);
            }
        }
        Some(all)
    }

    fn empty(id: Id, keys: &Keys) -> Self {
        Self {
            id,
            topic: None,
            body: None,
            delay: None,
            run: None,
            others: Vec::new(),
            plain: keys.plain.clone(),
        }
    }

    /// Notes a field that few entries have.
    fn note(&mut self, name: Vec<u8>, value: Vec<u8>) {
        match &*name {
            b"delay" => self.delay = parse(&value),
            b"railbus_run" => self.run = parse(&value),
            // Scripts read it; where all is in one text, it is in there as well.
            b"key" if self.plain.is_none() => {}
            _ => self.others.push((name, value)),
        }
    }

    /// Returns the topic beside the event, which says more only if the event can't be read.
    pub(super) fn topic(&self) -> Option<&str> {
        std::str::from_utf8(self.topic.as_deref()?).ok()
    }

    /// Returns how many bytes there are of it.
    pub(super) fn bytes(&self) -> usize {
        let own = [&self.topic, &self.body].into_iter().flatten().map(Bytes::len).sum::<usize>();
        own + self.others.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// Decodes the event, and tells whether it is wanted. What is no event, or names no topic, is
    /// wanted by everyone whose topics don't rule it out: nobody else would ever tell of it.
    pub(super) fn decode(mut self, wants: &SharedFilter) -> (Result<Event, Undecodable>, Fit) {
        match self.read_event() {
            Ok(event) => {
                let fits = wants.matches(event.event_type(), event.topic());
                (Ok(event), if fits { Fit::Wanted } else { Fit::Unwanted(None) })
            }
            Err(undecodable) => {
                let fit = match self.topic() {
                    Some(topic) if !wants.may_match(topic) => Fit::Unwanted(Some(topic.into())),
                    _ => Fit::Wanted,
                };
                (Err(undecodable), fit)
            }
        }
    }

    /// Takes the event out of it.
    fn read_event(&mut self) -> Result<Event, Undecodable> {
        let mut read = None;
        if let Some(body) = self.body.take() {
            match codec::decode(&body) {
                Ok(event) => return Ok(event),
                // Others may call anything an event.
                Err(_) if self.plain.is_some() => self.others.push((EVENT.into(), body.to_vec())),
                Err(error) => return Err(Undecodable { raw: body, error }),
            }
        }
        if let Some(stream) = &self.plain {
            let topic = self.topic.as_deref().and_then(|topic| std::str::from_utf8(topic).ok());
            read = Some(plain::read(self.id, stream, topic, &self.others));
        }
        let error = match read {
            Some(Ok(event)) => return Ok(event),
            Some(Err(error)) => error,
            None => {
                let why = "the entry has no field `event`: another program wrote it";
                Error::new(ErrorKind::Decode, "decode", why)
                    .with("entry", self.id)
                    .hint("where others write to the stream, open it with `format=plain`")
            }
        };
        let field = |(name, value): Field| [&*name, b"=", &*value, b" "].concat();
        let raw: Vec<u8> = std::mem::take(&mut self.others).into_iter().flat_map(field).collect();
        Err(Undecodable { raw: raw.into(), error })
    }

    /// Returns the event, if it is one.
    pub(super) fn event(&self) -> Option<Event> {
        self.clone().into_event()
    }

    /// Returns the event, if it is one.
    pub(super) fn into_event(mut self) -> Option<Event> {
        self.read_event().ok()
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

fn parse<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
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
