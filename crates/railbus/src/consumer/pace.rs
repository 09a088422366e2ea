//! How quick a group's handlers are, which decides where they run.

use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// What counts as quick: a task of its own, which another thread could take, costs a part of this.
const QUICK: Duration = Duration::from_micros(50);

/// How many deliveries in a row must have been quick.
const PROVEN: u32 = 16;

/// Counts how many deliveries in a row were quick.
///
/// Quick ones run one after another where they were fetched; others in tasks of their own, so that
/// none of them holds up the rest.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU32);

impl Pace {
    /// Tells whether handlers have proved quick.
    pub(super) fn is_quick(&self) -> bool {
        self.0.load(Relaxed) >= PROVEN
    }

    /// Takes note of how long a number of deliveries took; tells whether they were quick.
    pub(super) fn note(&self, took: Duration, deliveries: u32) -> bool {
        let quick = took <= QUICK * deliveries;
        match quick {
            // What is lost between two threads is noted the next time.
            true => self.0.store(self.0.load(Relaxed).saturating_add(deliveries), Relaxed),
            false => self.0.store(0, Relaxed),
        }
        quick
    }

    /// Takes note that a delivery waits for something.
    pub(super) fn waits(&self) {
        self.0.store(0, Relaxed);
    }

    /// Awaits one delivery and takes note of how long it took.
    pub(super) async fn measure<F: Future>(&self, delivery: F) -> F::Output {
        let began = Instant::now();
        let output = delivery.await;
        self.note(began.elapsed(), 1);
        output
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, PROVEN, Pace};

    #[test]
    fn handlers_prove_quick_in_a_row_and_one_that_is_slow_ends_that() {
        let pace = Pace::default();
        for n in 1..=PROVEN {
            assert!(!pace.is_quick(), "after {n}");
            assert!(pace.note(Duration::from_micros(5), 1));
        }
        assert!(pace.is_quick());
        assert!(!pace.note(Duration::from_millis(5), 16));
        assert!(!pace.is_quick());
    }
}
