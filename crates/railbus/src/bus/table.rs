//! The table of subscriptions: an immutable snapshot, replaced as a whole.

use super::{
    groups::{Groups, Rosters},
    index::{Index, Lists},
    matches::Matches,
};
use crate::{
    consumer::Entry,
    event::Event,
    sync::{ArcSwap, AtomicU64, Guard, Mutex, MutexGuard},
};
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::Ordering},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How far a bus is on its way from open to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Open,
    Draining,
    Closed,
}

/// The subscriptions of a bus. Readers take a snapshot and never wait.
#[derive(Debug)]
pub(super) struct Table {
    now: ArcSwap<Snapshot>,
    // How often it was replaced, told after it was.
    changes: AtomicU64,
    // Serialises changes, and knows what only they need.
    changing: Mutex<Changing>,
}

/// The table at one moment.
///
/// Whoever dispatches holds the snapshot it began with; the token tells when the last of them let
/// go, so that publishing need not announce itself to be waited for.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) phase: Phase,
    broadcasts: Index,
    /// How many broadcast subscriptions there are.
    heard_by: usize,
    groups: Groups,
    /// How many broadcast subscriptions may need a runtime when they run.
    heavy: usize,
    _token: Option<TaskTrackerToken>,
}

/// Why a subscription does not get into the table.
#[derive(Debug)]
pub(super) enum Refusal {
    Closed,
    /// Its group has one of this name.
    Named(String),
}

#[derive(Debug, Default)]
struct Changing {
    made: u64,
    all: HashMap<u64, Arc<Entry>>,
    rosters: Rosters,
}

impl Table {
    /// Creates an empty table; the token is kept as long as someone uses a snapshot of it from
    /// before it began to drain.
    pub(super) fn new(token: TaskTrackerToken) -> Self {
        let snapshot = Snapshot {
            phase: Phase::Open,
            broadcasts: Index::default(),
            heard_by: 0,
            groups: Groups::default(),
            heavy: 0,
            _token: Some(token),
        };
        Self {
            now: ArcSwap::from_pointee(snapshot),
            changes: AtomicU64::new(0),
            changing: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Guard<Arc<Snapshot>> {
        self.now.load()
    }

    /// Returns how often the table has changed: whoever looks at it afterwards sees at least that.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn replace(&self, next: Snapshot) {
        self.now.store(Arc::new(next));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Goes on to a later phase; to an earlier one it never goes back.
    pub(super) fn enter(&self, phase: Phase) {
        let _changing = self.lock();
        let mut next = Snapshot::clone(&self.now.load());
        next.phase = next.phase.max(phase);
        next._token = None;
        self.replace(next);
    }

    /// Adds a subscription, unless the bus began to close or its group has one of that name.
    pub(super) fn add(&self, mut entry: Entry) -> Result<Arc<Entry>, Refusal> {
        let mut changing = self.lock();
        let mut next = Snapshot::clone(&self.now.load());
        // Asked under the lock: what came in after the last clear would stay for ever.
        if next.phase != Phase::Open {
            return Err(Refusal::Closed);
        }
        entry.number = changing.made + 1;
        if entry.name.is_empty() {
            entry.name = format!("#{}", entry.number).into();
        }
        let entry = match entry.group.clone() {
            None => {
                let entry = Arc::new(entry);
                next.heavy += usize::from(entry.needs_runtime());
                next.broadcasts = next.broadcasts.with(&entry);
                next.heard_by += 1;
                entry
            }
            Some(group) => {
                if changing.rosters.has(&group, &entry.name) {
                    return Err(Refusal::Named(entry.name.to_string()));
                }
                let entry = Arc::new(entry);
                next.groups = next.groups.with(&group, &entry);
                changing.rosters.add(&group, &entry);
                entry
            }
        };
        changing.made = entry.number;
        changing.all.insert(entry.number, Arc::clone(&entry));
        self.replace(next);
        Ok(entry)
    }

    /// Removes the subscription with that number; returns it if it was there.
    pub(super) fn remove(&self, number: u64) -> Option<Arc<Entry>> {
        let mut changing = self.lock();
        let entry = changing.all.remove(&number)?;
        let mut next = Snapshot::clone(&self.now.load());
        match &entry.group {
            None => {
                next.heavy -= usize::from(entry.needs_runtime());
                next.broadcasts = next.broadcasts.without(&entry);
                next.heard_by -= 1;
            }
            Some(group) => {
                next.groups = next.groups.without(group, &entry);
                changing.rosters.remove(group, &entry);
            }
        }
        self.replace(next);
        Some(entry)
    }

    /// Cancels all subscriptions.
    pub(super) fn clear(&self) {
        let mut changing = self.lock();
        let mut next = Snapshot::clone(&self.now.load());
        (next.broadcasts, next.groups) = (Index::default(), Groups::default());
        (next.heavy, next.heard_by) = (0, 0);
        changing.rosters.clear();
        for (_, entry) in changing.all.drain() {
            entry.cancel();
        }
        self.replace(next);
    }

    /// Returns the subscriptions of `group` that want the event; `None` if none of them is
    /// interested in events of its type and topic, so that another member may be.
    pub(super) fn member(&self, group: &str, event: &Event) -> Option<SmallVec<[Arc<Entry>; 2]>> {
        let now = self.now.load();
        let lists = now.groups.candidates(group, event)?;
        let matching: SmallVec<_> =
            Matches::new(lists.clone()).filter(|e| e.wants(event)).cloned().collect();
        // One that was cancelled since is gone: what it wanted is not unmatched, but another's.
        let asked_for =
            |e: &Arc<Entry>| !e.is_cancelled() && e.is_asked_for(event.event_type(), event.topic());
        let known = !matching.is_empty() || Matches::new(lists).any(asked_for);
        known.then_some(matching)
    }

    /// Returns all subscriptions of `group`, in the order they run.
    pub(super) fn of_group(&self, group: &str) -> Vec<Arc<Entry>> {
        self.lock().rosters.of(group).cloned().collect()
    }

    /// Returns the subscription of `group` that runs before all others, if there is any.
    pub(super) fn first_of(&self, group: &str) -> Option<Arc<Entry>> {
        self.lock().rosters.of(group).next().cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// Returns the broadcast subscriptions that may want the event, if they are in one list; else
    /// none, and the lists are left in `several`.
    #[inline]
    pub(super) fn one<'a>(
        &'a self,
        event: &Event,
        several: &mut Option<Lists<'a>>,
    ) -> Option<&'a [Arc<Entry>]> {
        self.broadcasts.only(event).or_else(|| {
            let lists = self.broadcasts(event);
            let first = lists.first;
            if lists.more.is_empty() {
                return Some(first);
            }
            *several = Some(lists);
            None
        })
    }

    /// Returns the broadcast subscriptions that may want the event.
    #[inline]
    pub(super) fn broadcasts(&self, event: &Event) -> Lists<'_> {
        self.broadcasts.candidates(event)
    }

    /// Returns the broadcast subscriptions that want the event, in the order they run.
    pub(super) fn wanting<'a>(&'a self, event: &'a Event) -> impl Iterator<Item = &'a Arc<Entry>> {
        Matches::new(self.broadcasts(event)).filter(|entry| entry.wants(event))
    }

    /// Tells whether a broadcast subscription may want events of this type on their default topic.
    pub(super) fn hears(&self, event_type: &str) -> bool {
        if self.heard_by == 0 {
            return false;
        }
        let candidates = Matches::new(self.broadcasts.candidates_for(event_type));
        candidates.into_iter().any(|entry| interested(entry, event_type))
    }

    /// Tells whether a group has a subscription for events of this type on their default topic.
    pub(super) fn collects(&self, event_type: &str) -> bool {
        let candidates = Matches::new(self.groups.candidates_for(event_type));
        candidates.into_iter().any(|entry| interested(entry, event_type))
    }

    /// Tells whether running a broadcast may need a runtime.
    pub(super) fn is_heavy(&self) -> bool {
        self.heavy > 0
    }

    /// Returns how many subscriptions with a group want the event.
    #[inline]
    pub(super) fn grouped(&self, event: &Event) -> usize {
        match self.groups.is_empty() {
            true => 0,
            false => self.groups.wanting(event),
        }
    }
}

fn interested(entry: &Entry, event_type: &str) -> bool {
    entry.predicate.may_want(event_type, event_type)
}
