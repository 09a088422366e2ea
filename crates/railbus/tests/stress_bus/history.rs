//! What happened, in monotonic time, as those saw it who did it.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// Nanoseconds since the round began.
pub(crate) type Time = u64;

/// One thing that happened, between two times.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) begun: Time,
    pub(crate) ended: Time,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// A subscription was opened; its own event, if a handler did it.
    Opened {
        sub: u64,
        wants: Wants,
        order: Order,
        inside: Option<u64>,
    },
    Cancelled {
        sub: u64,
        inside: Option<u64>,
    },
    /// An event was published; the event whose handler did it, if one did.
    Published {
        event: Published,
        inside: Option<u64>,
        came: Came,
    },
    /// A handler ran.
    Called {
        sub: u64,
        event: u64,
        attempt: u32,
        how: How,
    },
    /// The bus was told to drain.
    Drained,
    /// The bus was closed.
    Closed,
}

/// As the bus is meant to order them: priority, then typed before catch-all, then age.
pub(crate) type Order = (i32, bool, u64);

/// What was published.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Published {
    pub(crate) number: u64,
    pub(crate) event_type: String,
    pub(crate) topic: String,
}

/// What a publish came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Came {
    /// Accepted: so many subscriptions wanted it.
    Ok(usize),
    Refused,
    /// Its future was dropped.
    Dropped,
}

/// How a call of a handler ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    Done,
    /// Failed or panicked, and that was its last try, or not.
    Failed {
        last: bool,
    },
    /// Its future was dropped.
    Dropped,
}

/// What a subscription wants, said once more and more simply than the library does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wants {
    Type(String),
    Types(String),
    Topic(String),
    /// Numbers that are even.
    Even,
    All,
}

impl Wants {
    pub(crate) fn takes(&self, event: &Published) -> bool {
        match self {
            Self::Type(name) => event.event_type == *name,
            Self::Types(prefix) => event.event_type.starts_with(prefix),
            Self::Topic(name) => event.topic == *name,
            Self::Even => event.number.is_multiple_of(2),
            Self::All => true,
        }
    }

    /// Tells whether it comes before those of its priority that are not.
    pub(crate) fn is_typed(&self) -> bool {
        matches!(self, Self::Type(_) | Self::Topic(_))
    }
}

const SHARDS: usize = 64;

/// Takes records down; threads do not get into each other's way.
pub(crate) struct Log {
    began: Instant,
    shards: [Mutex<Vec<Record>>; SHARDS],
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = THREADS.fetch_add(1, Relaxed) % SHARDS;
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub(crate) fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }

    /// Notes what ends now.
    pub(crate) fn note(&self, begun: Time, what: What) {
        let record = Record { begun, ended: self.now(), what };
        self.shards[SHARD.with(|shard| *shard)].lock().unwrap().push(record);
    }

    /// Returns everything so far, in the order of the beginnings.
    pub(crate) fn records(&self) -> Vec<Record> {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap().clone());
        let mut all: Vec<_> = shards.flatten().collect();
        all.sort_by_key(|record| record.begun);
        all
    }
}
