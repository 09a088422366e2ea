//! How often and how soon something that failed is tried again.

use std::time::Duration;

/// A retry policy, the same type for subscriptions, publishers and steps.
///
/// The first try counts: `attempts(3)` runs a thing at most three times. The wait before try
/// n + 1 is `backoff_factor * 2^(n-1)` seconds, at most `max_backoff`; there is none after the
/// last try.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    max_attempts: u32,
    factor: Duration,
    max_backoff: Duration,
    jitter: bool,
}

impl Default for Retry {
    /// Three attempts, half a second doubling up to 30 seconds, no jitter.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            factor: Duration::from_millis(500),
            max_backoff: Duration::from_secs(30),
            jitter: false,
        }
    }
}

impl Retry {
    /// Allows `max_attempts` tries, the first one included; 0 is taken as 1.
    #[must_use]
    pub fn attempts(max_attempts: u32) -> Self {
        Self { max_attempts: max_attempts.max(1), ..Self::default() }
    }

    /// Sets the wait after the first try (default 0.5 s).
    #[must_use]
    pub fn backoff_factor(mut self, factor: Duration) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the longest wait (default 30 s).
    #[must_use]
    pub fn max_backoff(mut self, max: Duration) -> Self {
        self.max_backoff = max;
        self
    }

    /// Spreads each wait evenly between half of it and all of it (default off).
    #[must_use]
    pub fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// Returns how many tries are allowed, the first one included.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Returns how long to wait after try `attempt` (from 1) failed; `None` if it was the last.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let wait = self.factor.saturating_mul(1 << doublings).min(self.max_backoff);
        if !self.jitter {
            return Some(wait);
        }
        Some(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_factor_up_to_the_cap_and_end_with_the_last_try() {
        let retry = Retry::attempts(5)
            .backoff_factor(Duration::from_secs(1))
            .max_backoff(Duration::from_secs(3));
        let waits: Vec<_> = (1..=5).map(|n| retry.wait_after(n).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(3), Some(3), None]);
    }

    #[test]
    fn a_huge_attempt_number_does_not_overflow() {
        assert_eq!(Retry::attempts(u32::MAX).wait_after(4_000_000), Some(Duration::from_secs(30)));
    }

    #[test]
    fn jitter_stays_between_half_and_all_of_the_wait() {
        let retry = Retry::attempts(2).jitter(true);
        for _ in 0..100 {
            let wait = retry.wait_after(1).expect("a second try is allowed");
            assert!((250..=500).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
