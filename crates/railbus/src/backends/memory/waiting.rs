//! What waits for its time, or for a member that wants it, in order of its time.
//!
//! No look goes through all of it: each member has a mark before which nothing waits that it wants, and
//! what was published with a delay is found by its id. So every event is looked at once a member, however
//! often that one asks and however much waits that is for others.

use super::{held::HeldBack, record::Record};
use crate::{backend::SharedFilter, event::Event};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// The time from which an event may be fetched, and its number; none comes before all times.
pub(super) type Place = (Option<Instant>, u64);

/// An event that is not new.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) event: Event,
    /// How often it was delivered so far.
    pub(super) attempt: u32,
    /// Whether it was, though its tries may have been taken back.
    pub(super) begun: bool,
    pub(super) lost: bool,
    /// Whether it holds its key.
    pub(super) holds: bool,
    pub(super) record: Option<Box<Record>>,
}

impl Again {
    pub(super) fn new(event: Event) -> Self {
        Self { event, attempt: 0, begun: false, lost: false, holds: false, record: None }
    }
}

/// All that waits, and how far each member has looked.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    events: BTreeMap<Place, Again>,
    // Those of them that were published with a delay and never handed out.
    held_back: HeldBack,
    marks: Vec<Mark>,
}

#[derive(Debug)]
struct Mark {
    member: u64,
    wants: SharedFilter,
    // Nothing that the member wants is before this; none if there is nothing at all.
    first: Option<Place>,
}

impl Mark {
    fn wants(&self, event: &Event) -> bool {
        self.wants.matches(event.event_type(), event.topic())
    }
}

impl Waiting {
    /// Looks for a member from here on.
    pub(super) fn join(&mut self, member: u64, wants: SharedFilter) {
        self.marks.push(Mark { member, wants, first: Some((None, 0)) });
    }

    /// Looks no more for a member.
    pub(super) fn leave(&mut self, member: u64) {
        self.marks.retain(|mark| mark.member != member);
    }

    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns all that waits, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Again> {
        self.events.values()
    }

    pub(super) fn insert(&mut self, place: Place, again: Again) {
        for mark in &mut self.marks {
            if mark.first.is_none_or(|first| place < first) && mark.wants(&again.event) {
                mark.first = Some(place);
            }
        }
        if let Some(due) = held_back(place, &again) {
            self.held_back.add(again.event.id(), due, place.1);
        }
        self.events.insert(place, again);
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Again> {
        let again = self.events.remove(&place)?;
        if let Some(due) = held_back(place, &again) {
            self.held_back.remove(again.event.id(), due, place.1);
        }
        Some(again)
    }

    /// Takes out all that may be fetched by its time, or was handed out before.
    pub(super) fn take(&mut self) -> Vec<(Place, Again)> {
        let taken = |place: &Place, again: &mut Again| held_back(*place, again).is_none();
        self.events.extract_if(.., taken).collect()
    }

    /// Returns where the first event is that a member wants.
    pub(super) fn first(&mut self, member: u64) -> Option<Place> {
        let mark = self.marks.iter_mut().find(|mark| mark.member == member)?;
        let mut behind = self.events.range(mark.first?..);
        let first = behind.find(|(_, again)| mark.wants(&again.event)).map(|(place, _)| *place);
        mark.first = first;
        first
    }

    /// Takes out what was published under this id and is not due yet.
    pub(super) fn withdraw(&mut self, event_id: &str, now: Instant) -> Vec<Event> {
        let mut withdrawn = Vec::new();
        for (due, number) in self.held_back.find(event_id, now) {
            let place = (Some(due), number);
            if self.events.get(&place).is_some_and(|again| again.event.id() == event_id) {
                withdrawn.extend(self.remove(place).map(|again| again.event));
            }
        }
        withdrawn
    }
}

/// Returns when an event is due that was published with a delay and never handed out.
fn held_back((due, _): Place, again: &Again) -> Option<Instant> {
    due.filter(|_| !again.begun)
}
