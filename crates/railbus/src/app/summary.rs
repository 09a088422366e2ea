//! The summary of a run: every event accounted for.

use crate::{backend::Tally, instrument::Counters};
use serde::Serialize;
use std::time::Duration;

/// What became of a run's events: distinct ids, each by its worst outcome over subscriptions.
///
/// When the run ended idle, published + carried = succeeded + failed + dead_lettered + unmatched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Published by this run, or by anyone who is not a run, since it began.
    pub published: u64,
    /// Unsettled when it began.
    pub carried: u64,
    /// Delivered at least once.
    pub delivered: u64,
    /// Handled.
    pub succeeded: u64,
    /// Ended without success and without a dead letter.
    pub failed: u64,
    /// Kept as dead letters.
    pub dead_lettered: u64,
    /// Wanted by no subscription.
    pub unmatched: u64,
    /// Tried more than once.
    pub retried: u64,
    /// Pipelines run by this process.
    pub runs: u64,
    /// Seconds from start to end.
    pub elapsed: f64,
}

impl Summary {
    pub(super) fn of_store(tally: Tally, runs: u64, elapsed: Duration) -> Self {
        Self {
            published: tally.published,
            carried: tally.carried,
            delivered: tally.delivered,
            succeeded: tally.succeeded,
            failed: tally.failed,
            dead_lettered: tally.dead_lettered,
            unmatched: tally.unmatched,
            retried: tally.retried,
            runs,
            elapsed: elapsed.as_secs_f64(),
        }
    }

    /// Counts broadcasts, of which only this process knows. A line that never became an event has
    /// no dead letters to go to here: it failed.
    pub(super) fn of_process(counters: &Counters, runs: u64, elapsed: Duration) -> Self {
        let events = &counters.broadcasts;
        let (succeeded, failed) = (events.succeeded.get(), events.failed.get());
        let (unmatched, rejected) = (events.unmatched.get(), events.rejected.get());
        Self {
            published: succeeded + failed + unmatched + rejected,
            delivered: counters.delivered.get(),
            succeeded,
            failed: failed + rejected,
            unmatched,
            retried: events.retried.get(),
            runs,
            elapsed: elapsed.as_secs_f64(),
            ..Self::default()
        }
    }

    /// Tells whether an event failed for good.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.failed + self.dead_lettered > 0
    }

    /// Tells whether there was nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.published + self.carried == 0
    }
}
