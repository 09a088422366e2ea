//! How often is posted: so many in a while, evenly, with a burst of as many after a rest.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// A rate; each who asks has a time of its own.
#[derive(Debug)]
pub(super) struct Rate {
    each: Duration,
    burst: Duration,
    // When the next one would be due if there were no burst.
    next: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(count: u32, every: Duration) -> Self {
        let each = every / count.max(1);
        Self { each, burst: every.saturating_sub(each), next: Mutex::new(None) }
    }

    /// Waits for its turn.
    ///
    /// # Cancel safety
    /// If it is dropped, its turn is lost.
    pub(super) async fn turn(&self) {
        let due = {
            let now = Instant::now();
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let due = next.unwrap_or(now).max(now);
            *next = Some(due + self.each);
            due.checked_sub(self.burst).filter(|due| *due > now)
        };
        if let Some(due) = due {
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_each_in_its_time() {
        let (rate, began) = (Rate::new(5, Duration::from_secs(1)), Instant::now());
        let mut times = Vec::new();
        for _ in 0..8 {
            rate.turn().await;
            times.push(began.elapsed().as_millis());
        }
        assert_eq!(times[..5], [0; 5]);
        let rest: Vec<_> = times[5..].iter().map(|ms| (ms + 50) / 100).collect();
        assert_eq!(rest, [2, 4, 6]);
    }
}
