//! Counters: what one bus did, for progress lines and summaries.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a bus in this process did since it opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events confirmed by the backend.
    pub published: Counter,
    /// Deliveries begun, redeliveries included.
    pub delivered: Counter,
    /// Subscriptions that handled an event.
    pub succeeded: Counter,
    /// Tries that failed and will be made again.
    pub retried: Counter,
    /// Subscriptions that let an event go.
    pub failed: Counter,
    /// Subscriptions that gave up an event as a dead letter.
    pub dead_lettered: Counter,
    /// Deliveries to a group that nobody in it wanted after all.
    pub unmatched: Counter,
    /// Events delivered to subscriptions without a group, each by its worst outcome.
    pub broadcasts: Broadcasts,
}

/// What became of events over all subscriptions without a group.
#[derive(Debug, Default)]
pub struct Broadcasts {
    /// Handled.
    pub succeeded: Counter,
    /// Failed in one subscription at least.
    pub failed: Counter,
    /// Wanted by none.
    pub unmatched: Counter,
    /// Tried more than once.
    pub retried: Counter,
    /// Lines of an input that never became an event.
    pub rejected: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
