//! The summary of a run: every event accounted for.

use crate::{backend::Tally, instrument::Counters};
use serde::Serialize;
use std::time::Duration;

/// What became of a run's events: distinct ids, each by its worst outcome over subscriptions.
///
/// When the run ended idle, published + carried = succeeded + failed + dead_lettered + unmatched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// What became of the events: in the app's groups, or if it has none, in its broadcasts.
    #[serde(flatten)]
    pub events: Tally,
    /// What became of the broadcasts of an app that has groups as well. Not stored, so not part of
    /// the counts; a failure among them counts for the exit code.
    #[serde(skip)]
    pub broadcasts: Option<Tally>,
    /// Pipelines run by this process.
    pub runs: u64,
    /// Seconds from start to end.
    pub elapsed: f64,
}

impl Summary {
    pub(super) fn new(
        events: Tally,
        broadcasts: Option<Tally>,
        runs: u64,
        elapsed: Duration,
    ) -> Self {
        Self { events, broadcasts, runs, elapsed: elapsed.as_secs_f64() }
    }

    /// Tells whether an event failed for good.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        let lost = self.broadcasts.map_or(0, |broadcasts| broadcasts.failed);
        self.events.failed + self.events.dead_lettered + lost > 0
    }

    /// Returns how many events were not settled when the run ended; none if it ended idle.
    #[must_use]
    pub fn left(&self) -> u64 {
        let events = &self.events;
        let settled = events.succeeded + events.failed + events.dead_lettered + events.unmatched;
        (events.published + events.carried).saturating_sub(settled)
    }

    /// Tells whether there was nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.published + self.events.carried == 0
    }
}

/// Counts broadcasts, of which only this process knows. A line that never became an event has no
/// dead letters to go to here: it failed.
pub(super) fn of_process(counters: &Counters) -> Tally {
    let events = &counters.broadcasts;
    let (succeeded, failed) = (events.succeeded.get(), events.failed.get());
    let (unmatched, rejected) = (events.unmatched.get(), events.rejected.get());
    Tally {
        // What was published and not handled shows as a gap; on a store, others publish too.
        published: counters.published.get().max(succeeded + failed + unmatched + rejected),
        delivered: counters.delivered.get(),
        succeeded,
        failed: failed + rejected,
        unmatched,
        retried: events.retried.get(),
        ..Tally::default()
    }
}
