//! How much is fetched at once, and how often.

use super::shared::Shared;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How a member fetches, unless its room says less: no bound and no pause by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pull {
    /// The most that is fetched at once.
    pub(crate) batch: Option<usize>,
    /// How often is fetched at most, as long as the last fetch was not full.
    pub(crate) every: Duration,
}

impl Pull {
    /// Returns what keeps to both.
    pub(crate) fn join(self, other: Self) -> Self {
        let batch = self.batch.into_iter().chain(other.batch).min();
        Self { batch, every: self.every.max(other.every) }
    }
}

/// Where a member is between two fetches.
pub(super) struct Pulling {
    pull: Pull,
    asked: usize,
    // None before the first fetch, and where nobody asks for a pause: then no clock is looked at.
    next: Option<Instant>,
}

impl Pulling {
    pub(super) fn new(pull: Pull) -> Self {
        Self { pull, asked: 0, next: None }
    }

    /// Waits until the next fetch may begin; false if the member stops meanwhile.
    pub(super) async fn pause(&mut self, shared: &Shared) -> bool {
        let Some(next) = self.next.take() else { return true };
        let mut draining = shared.draining.subscribe();
        timeout_at(next, draining.wait_for(|draining| *draining)).await.is_err()
    }

    /// Returns how many are fetched at most where there is so much room.
    pub(super) fn most(&self, room: usize) -> usize {
        self.pull.batch.map_or(room, |batch| batch.min(room))
    }

    /// Begins a fetch of so many.
    pub(super) fn begin(&mut self, asked: usize) {
        self.asked = asked;
        if !self.pull.every.is_zero() {
            self.next = Instant::now().checked_add(self.pull.every);
        }
    }

    /// Notes what came of it: behind a full batch there is probably more.
    pub(super) fn got(&mut self, count: usize) {
        if count >= self.asked {
            self.next = None;
        }
    }
}
