//! Events that were read, or came again, and that this member does not want.

use super::{
    entry::Entry,
    id::Id,
    settle::{Aside, Fate},
};
use crate::{
    backend::{SharedFilter, Undecodable},
    error::Result,
    event::Event,
};

/// An event that was read and is not handed out.
pub(super) struct Unwanted {
    pub(super) id: Id,
    pub(super) fence: u64,
    pub(super) what: What,
}

/// What is known of an event that is not handed out.
pub(super) enum What {
    /// It was not decoded, since its topic ruled it out.
    Entry(Entry),
    /// Its type and topic.
    Event(String, String),
    /// It is no event, and stands beside this topic, if any.
    Poison(Option<String>),
}

impl Unwanted {
    pub(super) fn new(
        id: Id,
        fence: u64,
        event: Result<Event, Undecodable>,
        topic: Option<String>,
    ) -> Self {
        let what = match event {
            Ok(event) => What::Event(event.event_type().into(), event.topic().into()),
            Err(_) => What::Poison(topic),
        };
        Self { id, fence, what }
    }

    /// Says what becomes of it where all members together want this.
    pub(super) fn fate(&mut self, union: &SharedFilter) -> Fate {
        if let What::Entry(entry) = &self.what {
            if entry.is_ruled_out(union) {
                return Fate::aside(self.id, self.fence, Aside::Dropped);
            }
            self.what = match entry.event() {
                Some(event) => What::Event(event.event_type().into(), event.topic().into()),
                // Its topic is not ruled out.
                None => What::Poison(None),
            };
        }
        let left = match &self.what {
            What::Event(event_type, topic) => union.matches(event_type, topic),
            What::Poison(Some(topic)) => union.may_match(topic),
            What::Entry(_) | What::Poison(None) => true,
        };
        Fate::aside(self.id, self.fence, if left { Aside::Left } else { Aside::Dropped })
    }
}
