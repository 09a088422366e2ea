//! What a group has not settled: new, held back, leased.
//!
//! New events are a plain queue; what was delivered before, is held back or was left by a member
//! that does not want it waits in order of its time, and in a group that is ordered by key what
//! another event of its key holds up waits for that one (`keys`). A lease costs no entry in any order: when the
//! earliest one may have run out, all are looked at.

use super::{
    keys::Keys,
    record::Record,
    waiting::{Again, Waiting},
};
use crate::{
    backend::{Leased, Receipt, Settle, SharedFilter, Verdict},
    clock::Timestamp,
    delivery::{End, Try},
    event::Event,
    predicate::Filter,
};
use smol_str::SmolStr;
use std::{collections::VecDeque, mem, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The unsettled events of a group.
#[derive(Debug, Default)]
pub(super) struct Queue {
    // Counts the events, for their order.
    made: u64,
    new: VecDeque<(u64, Event)>,
    waiting: Waiting,
    slots: Vec<Slot>,
    free: Vec<usize>,
    // What waits for its key; none if the order of keys is nobody's matter.
    keys: Option<Keys<Again>>,
    // No lease runs out before this; none if there is no lease.
    earliest_end: Option<Instant>,
}

/// A place that a leased event is in; `fence` counts all leases that were here.
#[derive(Debug, Default)]
struct Slot {
    fence: u64,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    until: Instant,
    again: Again,
}

/// A subscription's failure for good.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) event: Event,
    pub(super) subscription: String,
    pub(super) reason: String,
    pub(super) attempts: u32,
    pub(super) history: Vec<Try>,
}

/// What a settlement came to.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) dead: Vec<Dead>,
    /// The event that comes again, and whether it is held back.
    pub(super) again: Option<(Event, bool)>,
    /// The event that is through.
    pub(super) through: Option<Event>,
    /// The event that has waited for the key of that one.
    pub(super) freed: Option<Event>,
}

impl Queue {
    /// Returns how many events are not settled.
    pub(super) fn len(&self) -> usize {
        let held_up = self.keys.as_ref().map_or(0, Keys::len);
        self.new.len() + self.waiting.len() + held_up + self.leased()
    }

    /// Returns how many events are leased.
    pub(super) fn leased(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns the time before which no lease runs out; none if there is no lease.
    pub(super) fn earliest_end(&self) -> Option<Instant> {
        self.earliest_end
    }

    /// Tells whether an event of interest is not settled.
    pub(super) fn has(&self, wanted: &Filter) -> bool {
        let held = self.slots.iter().filter_map(|slot| slot.held.as_ref());
        let events = self.new.iter().map(|(_, event)| event);
        let events = events.chain(self.waiting.iter().map(|again| &again.event));
        let held_up = self.keys.iter().flat_map(Keys::iter).map(|again| &again.event);
        let mut events = events.chain(held.map(|held| &held.again.event)).chain(held_up);
        events.any(|event| wanted.matches(event.event_type(), event.topic()))
    }

    /// Lets a member claim what it wants.
    pub(super) fn join(&mut self, member: u64, wants: SharedFilter) {
        self.waiting.join(member, wants);
    }

    /// Forgets a member.
    pub(super) fn leave(&mut self, member: u64) {
        self.waiting.leave(member);
    }

    /// Adds an event that was published.
    pub(super) fn push(&mut self, event: Event) {
        self.made += 1;
        if let Some(delay) = event.delay() {
            let due = after(Instant::now(), delay);
            self.waiting.insert((Some(due), self.made), Again::new(event));
            return;
        }
        // It says of itself whether it holds its key: all that are new and have one do.
        if let Some(again) = self.hold(self.made, Again::new(event)) {
            self.new.push_back((self.made, again.event));
        }
    }

    /// Adds an event that one subscription gets anew.
    pub(super) fn redrive(&mut self, event: Event, subscription: String) {
        self.made += 1;
        let record = Record { only: Some(subscription), ..Record::default() };
        let again = Again { record: Some(Box::new(record)), ..Again::new(event) };
        self.waiting.insert((None, self.made), again);
    }

    /// Takes out what was published under this id and is not due yet.
    pub(super) fn withdraw(&mut self, event_id: &str, now: Instant) -> Vec<Event> {
        self.waiting.withdraw(event_id, now)
    }

    /// Leases up to `max` events to a member, which wants what is `wanted`: first those that are due
    /// again, then new ones.
    pub(super) fn claim(
        &mut self,
        (member, wanted): (u64, &Filter),
        lease: Duration,
        max: usize,
    ) -> Vec<Leased> {
        if self.new.is_empty() && self.waiting.is_empty() && self.earliest_end.is_none() {
            return Vec::new();
        }
        let now = Instant::now();
        self.end_leases(now);
        let wants = |event: &Event| wanted.matches(event.event_type(), event.topic());
        let mut leased = Vec::with_capacity(max.min(self.waiting.len() + self.new.len()));
        let until = after(now, lease);
        while leased.len() < max
            && let Some(place) = self.waiting.first(member)
            && place <= (Some(now), u64::MAX)
        {
            let again = self.waiting.remove(place);
            if let Some(mut again) = again.and_then(|again| self.hold(place.1, again)) {
                (again.attempt, again.begun) = (again.attempt.saturating_add(1), true);
                leased.push(self.lease(place.1, until, again));
            }
        }
        while leased.len() < max
            && let Some((number, event)) = self.new.pop_front()
        {
            let wanted = wants(&event);
            let holds = self.keys.is_some() && event.key().is_some();
            let attempt = u32::from(wanted);
            let again = Again { attempt, begun: wanted, holds, ..Again::new(event) };
            match wanted {
                true => leased.push(self.lease(number, until, again)),
                // For another member; from here on it is in nobody's way.
                false => self.waiting.insert((None, number), again),
            }
        }
        if !leased.is_empty() {
            self.earliest_end = Some(self.earliest_end.map_or(until, |end| end.min(until)));
        }
        leased
    }

    /// Holds the key of an event, which is given back; where another holds it, the event waits.
    fn hold(&mut self, number: u64, mut again: Again) -> Option<Again> {
        if again.holds {
            return Some(again);
        }
        let key = again.event.key().map(SmolStr::new);
        let (Some(keys), Some(key)) = (&mut self.keys, key) else { return Some(again) };
        again.holds = true;
        keys.enter(&key, number, again)
    }

    /// Keeps the order of keys from here on. What is leased holds its key, then what was delivered
    /// before, then what was published first.
    pub(super) fn order_by_key(&mut self) {
        if self.keys.is_some() {
            return;
        }
        let mut keys = Keys::default();
        for held in self.slots.iter_mut().filter_map(|slot| slot.held.as_mut()) {
            if let Some(key) = held.again.event.key() {
                keys.hold(key);
                held.again.holds = true;
            }
        }
        self.keys = Some(keys);
        let mut enter = self.waiting.take();
        enter.sort_by_key(|((_, number), again)| (!again.begun, *number));
        for ((due, number), again) in enter {
            if let Some(again) = self.hold(number, again) {
                self.waiting.insert((due, number), again);
            }
        }
        for (number, event) in mem::take(&mut self.new) {
            if let Some(again) = self.hold(number, Again::new(event)) {
                self.new.push_back((number, again.event));
            }
        }
    }

    /// Lets go of the key of an event that is through; returns the one that has waited for it.
    fn let_go(&mut self, again: &Again) -> Option<Event> {
        let key = again.event.key().filter(|_| again.holds)?;
        let (number, next) = self.keys.as_mut()?.leave(key)?;
        let event = next.event.clone();
        // Before all times, so that it comes before what was published later.
        self.waiting.insert((None, number), next);
        Some(event)
    }

    fn lease(&mut self, number: u64, until: Instant, again: Again) -> Leased {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[place];
        slot.fence += 1;
        let record = again.record.as_deref();
        let leased = Leased {
            receipt: Receipt { place: place as u64, fence: slot.fence, token: None },
            event: Ok(again.event.clone()),
            attempt: again.attempt,
            lost: again.lost,
            finished: record.map(|r| r.finished.clone()).unwrap_or_default(),
            only: record.and_then(|r| r.only.clone()),
        };
        slot.held = Some(Held { number, until, again });
        leased
    }

    /// Takes back what was leased until now or before.
    fn end_leases(&mut self, now: Instant) {
        if self.earliest_end.is_none_or(|end| end > now) {
            return;
        }
        self.earliest_end = None;
        for (place, slot) in self.slots.iter_mut().enumerate() {
            let Some(held) = &slot.held else { continue };
            if held.until > now {
                let end = self.earliest_end.map_or(held.until, |end| end.min(held.until));
                self.earliest_end = Some(end);
                continue;
            }
            let Some(Held { number, until, mut again }) = slot.held.take() else { continue };
            self.free.push(place);
            again.lost = true;
            again.record.get_or_insert_default().lengthen([Try {
                attempt: again.attempt,
                at: Timestamp::now(),
                subscription: String::new(),
                reason: "the lease ran out unsettled: the handler hung".into(),
            }]);
            self.waiting.insert((Some(until), number), again);
        }
    }

    /// Returns when there may be something to claim after a claim that found nothing; none if
    /// nothing comes by itself.
    pub(super) fn next_due(&mut self, member: u64) -> Option<Instant> {
        let due = self.waiting.first(member).and_then(|(due, _)| due);
        [due, self.earliest_end].into_iter().flatten().min()
    }

    /// Settles one lease; none if it was lost.
    pub(super) fn settle(&mut self, settle: &Settle, lease: Duration) -> Option<Settled> {
        let place = usize::try_from(settle.receipt.place).ok()?;
        let slot = self.slots.get_mut(place)?;
        let held = slot.held.as_mut().filter(|_| slot.fence == settle.receipt.fence)?;
        let mut settled = Settled::default();
        let acked = settle.verdict == Verdict::Ack;
        if !(acked && is_plain(settle)) {
            settled.dead = note(&mut held.again, settle);
        }
        if let Verdict::Extend { tries } = settle.verdict {
            held.again.attempt = held.again.attempt.saturating_add(tries);
            held.until = after(Instant::now(), lease);
            return Some(settled);
        }
        let Held { number, mut again, .. } = slot.held.take()?;
        self.free.push(place);
        again.lost = false;
        let due = match settle.verdict {
            Verdict::Nack { delay } => Some(after(Instant::now(), delay)),
            Verdict::Release { delay } => {
                again.attempt = again.attempt.saturating_sub(1);
                // Before all times, so that it comes before what was never delivered.
                (!delay.is_zero()).then(|| after(Instant::now(), delay))
            }
            Verdict::Ack | Verdict::Extend { .. } => {
                settled.freed = self.let_go(&again);
                settled.through = Some(again.event);
                return Some(settled);
            }
        };
        settled.again = Some((again.event.clone(), due.is_some()));
        self.waiting.insert((due, number), again);
        Some(settled)
    }
}

/// Tells whether nothing is worth remembering: nobody failed.
fn is_plain(settle: &Settle) -> bool {
    let well = |(_, end): &(Arc<str>, End)| matches!(end, End::Done | End::Unmatched);
    settle.failed.is_empty() && settle.ended.iter().all(well)
}

/// Remembers what a settlement tells; returns who gave the event up.
fn note(again: &mut Again, settle: &Settle) -> Vec<Dead> {
    if settle.failed.is_empty() && settle.ended.is_empty() {
        return Vec::new();
    }
    let record = again.record.get_or_insert_default();
    record.lengthen(settle.failed.iter().cloned());
    record.finish(&settle.ended);
    let dead = settle.ended.iter().filter_map(|(subscription, end)| match end {
        End::Dead(reason) => Some((subscription, reason)),
        _ => None,
    });
    dead.map(|(subscription, reason)| {
        let history = record.tries_of(subscription);
        Dead {
            event: again.event.clone(),
            subscription: subscription.to_string(),
            reason: reason.clone(),
            attempts: history.last().map_or(again.attempt, |t| t.attempt),
            history,
        }
    })
    .collect()
}

/// Returns the time after a delay, which may be too long for any clock.
fn after(now: Instant, delay: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
    now.checked_add(delay).unwrap_or(now + FAR)
}
