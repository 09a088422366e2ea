//! What happened, in order, with monotonic times: what the second oracle looks at.

use crate::backend::{Receipt, Verdict};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The events of one case as its sources and publishers saw them. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct History {
    began: Instant,
    records: Arc<Mutex<Vec<Record>>>,
    // The longest that a call took, and that this process stood still, in microseconds.
    slowest: Arc<AtomicU64>,
    stalled: Arc<AtomicU64>,
    // When a case that records nothing was last known to go on.
    going: Arc<AtomicU64>,
    // Whether what was done may not have been told: connections are cut on purpose.
    faulty: Arc<AtomicBool>,
}

/// One thing that happened, between two times since the case began.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// When the call began.
    pub(super) begun: Duration,
    /// When it returned.
    pub(super) ended: Duration,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// An event was confirmed to its publisher; the index is its place in the call's batch.
    Published(Published),
    /// An event was not confirmed, and may have been stored all the same.
    Doubtful { event: String },
    /// A member's source gave an event.
    Delivered(Delivered),
    /// A settlement was confirmed.
    Settled { member: u64, receipt: Receipt, verdict: Verdict },
    /// An event that was held back was taken back.
    Withdrawn { event: String },
    /// The server was killed.
    Crashed,
    /// What the group had settled comes again, on purpose.
    Anew { group: String },
    /// A fetch returned without events.
    Empty { member: u64 },
    /// A source of a group, or of broadcasts, was told to stop, or was closed.
    Stopped { member: u64, group: Option<String> },
}

#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) event: String,
    pub(super) key: Option<String>,
    pub(super) publisher: u64,
    pub(super) index: usize,
    /// Whether it was to come later.
    pub(super) delayed: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) event: String,
    /// None for a broadcast.
    pub(super) group: Option<String>,
    pub(super) member: u64,
    pub(super) receipt: Receipt,
    pub(super) attempt: u32,
    pub(super) lease: Duration,
    /// Whether the group keeps the order of keys.
    pub(super) by_key: bool,
    /// What the member wants.
    pub(super) wants: Arc<str>,
}

/// Returns the groups whose members do not all want the same.
pub(super) fn mixed(records: &[Record]) -> HashSet<Option<&str>> {
    let (mut wants, mut mixed) = (HashMap::new(), HashSet::new());
    for record in records {
        let What::Delivered(Delivered { group: Some(group), wants: these, .. }) = &record.what
        else {
            continue;
        };
        if wants.entry(group.as_str()).or_insert(these) != &these {
            mixed.insert(Some(group.as_str()));
        }
    }
    mixed
}

/// Returns the groups that a member left, with the moment when it was told to: what was on its way to
/// it comes to the others, late.
pub(super) fn left(records: &[Record]) -> HashMap<&str, Duration> {
    let mut left = HashMap::new();
    for Record { begun, what, .. } in records {
        if let What::Stopped { group: Some(group), .. } = what {
            let first = left.entry(group.as_str()).or_insert(*begun);
            *first = (*first).min(*begun);
        }
    }
    left
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            records: Arc::default(),
            slowest: Arc::default(),
            stalled: Arc::default(),
            going: Arc::default(),
            faulty: Arc::default(),
        }
    }

    /// Returns the time since the case began.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes what a call that began at `begun` came to.
    pub(super) fn note(&self, begun: Duration, what: impl IntoIterator<Item = What>) {
        let mut records = self.lock();
        // Read under the lock, so that records lie in the order of their ends.
        let ended = self.now();
        records.extend(what.into_iter().map(|what| Record { begun, ended, what }));
    }

    /// Notes how long a call took that should take no time beside a lease.
    pub(super) fn took(&self, time: Duration) {
        self.slowest.fetch_max(micros(time), Relaxed);
    }

    /// Notes how long this process stood still.
    pub(super) fn stalled(&self, time: Duration) {
        self.stalled.fetch_max(micros(time), Relaxed);
    }

    /// The longest that anything took for which nobody asked: where connections are cut on purpose,
    /// calls take long, and are no excuse.
    pub(super) fn slowest(&self) -> Duration {
        let calls = if self.is_faulty() { 0 } else { self.slowest.load(Relaxed) };
        Duration::from_micros(calls).max(self.stillest())
    }

    /// The longest that this process stood still.
    pub(super) fn stillest(&self) -> Duration {
        Duration::from_micros(self.stalled.load(Relaxed))
    }

    /// Says that connections are cut from now on: what came of a call may not be known to its caller.
    pub(super) fn expect_faults(&self) {
        self.faulty.store(true, Relaxed);
    }

    pub(super) fn is_faulty(&self) -> bool {
        self.faulty.load(Relaxed)
    }

    /// Notes that a case goes on which records nothing of what it does.
    pub(super) fn goes_on(&self) {
        self.going.store(micros(self.now()), Relaxed);
    }

    /// Returns for how long nothing was noted.
    pub(super) fn silence(&self) -> Duration {
        let last = self.lock().last().map_or(Duration::ZERO, |record| record.ended);
        self.now().saturating_sub(last.max(Duration::from_micros(self.going.load(Relaxed))))
    }

    /// Says what was noted last.
    pub(super) fn last(&self) -> String {
        self.lock().last().map_or("nothing".into(), |record| format!("{:?}", record.what))
    }

    /// Returns everything so far, in the order of the ends.
    pub(super) fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    /// Adds a record as it is.
    #[cfg(test)]
    pub(super) fn put(&self, record: Record) {
        self.lock().push(record);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
