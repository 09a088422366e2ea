//! Whether an endpoint is posted to now: not while it is down, nor while it asks to wait.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How long the pauses become, each twice the one before.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Pauses after so many failures in a row; then one request is tried, and what comes of it decides.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    pause: Duration,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    // In a row, none between them.
    failed: u32,
    // Pauses since it last went well.
    pauses: u32,
    // Until when nothing is posted.
    until: Option<Instant>,
    // Whether one is under way that decides.
    probing: bool,
    gone: bool,
}

/// What came of a request, as far as it tells whether the endpoint is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sign {
    /// It answered.
    There,
    /// It did not, or was not able to.
    Down,
    /// It asks to wait.
    Wait(Duration),
    /// It will never be again.
    Gone,
}

/// The right to post once; dropped without a word, it decides nothing.
pub(super) struct Turn<'a> {
    breaker: &'a Breaker,
    probes: bool,
}

impl Breaker {
    pub(super) fn new(failures: u32, pause: Duration) -> Self {
        Self { failures, pause, state: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one may be posted.
    ///
    /// # Cancel safety
    /// Nothing is taken if it is dropped.
    pub(super) async fn pass(&self) -> Turn<'_> {
        self.wait(|state| match state.until {
            None => Some(Turn { breaker: self, probes: false }),
            Some(_) if state.probing => None,
            Some(_) => {
                state.probing = true;
                Some(Turn { breaker: self, probes: true })
            }
        })
        .await
    }

    /// Waits until some may be fetched to be posted; tells how many at most.
    #[cfg(test)]
    pub(super) async fn room(&self, most: usize) -> usize {
        self.wait(|state| match state.until {
            None => Some(most),
            Some(_) => (!state.probing).then_some(1),
        })
        .await
    }

    /// Waits until `take` takes something, which is asked whenever no pause is left.
    async fn wait<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // From here on no change is missed.
            let changed = self.changed.notified();
            let until = {
                let mut state = self.lock();
                let until = state.until.filter(|until| *until > Instant::now());
                if until.is_none()
                    && !state.gone
                    && let Some(taken) = take(&mut state)
                {
                    return taken;
                }
                until
            };
            match until {
                Some(until) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(until) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    fn note(&self, sign: Sign, probes: bool) -> Option<Duration> {
        let mut state = self.lock();
        if probes {
            state.probing = false;
        }
        let mut paused = None;
        match sign {
            Sign::There if state.until.is_none() || probes => *state = State::default(),
            // Sent before the pause.
            Sign::There => {}
            Sign::Gone => state.gone = true,
            Sign::Wait(wait) => {
                state.until = state.until.max(Instant::now().checked_add(wait));
            }
            Sign::Down => {
                state.failed = state.failed.saturating_add(1);
                let opens = state.until.is_none() && state.failed >= self.failures;
                if self.failures > 0 && (opens || probes) {
                    let pause = self.pause.saturating_mul(1 << state.pauses.min(16));
                    let pause = pause.min(PAUSE_MAX.max(self.pause));
                    state.pauses += 1;
                    state.until = Instant::now().checked_add(pause);
                    paused = Some(pause);
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
        paused
    }
}

impl Turn<'_> {
    /// Says what came of it; tells how long nothing is posted now, if that begins.
    pub(super) fn came(mut self, sign: Sign) -> Option<Duration> {
        let probes = std::mem::take(&mut self.probes);
        self.breaker.note(sign, probes)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.probes {
            self.breaker.lock().probing = false;
            self.breaker.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, pin_mut};
    use tokio::time::{advance, pause};

    #[tokio::test]
    async fn after_failures_in_a_row_one_is_tried_and_decides() {
        pause();
        let breaker = Breaker::new(2, Duration::from_secs(10));
        let fails = async || breaker.pass().await.came(Sign::Down);
        assert_eq!(fails().await, None);
        assert_eq!(breaker.pass().await.came(Sign::There), None, "one that goes well between");
        assert_eq!(fails().await, None);
        assert_eq!(fails().await, Some(Duration::from_secs(10)));
        assert!(
            breaker.pass().now_or_never().is_none() && breaker.room(5).now_or_never().is_none()
        );
        advance(Duration::from_secs(11)).await;
        assert_eq!(breaker.room(5).await, 1);
        let probe = breaker.pass().await;
        assert!(breaker.pass().now_or_never().is_none(), "one at a time");
        assert_eq!(probe.came(Sign::Down), Some(Duration::from_secs(20)));
        advance(Duration::from_secs(21)).await;
        drop(breaker.pass().await); // it was cut short
        let probe = breaker.pass().await;
        let waiting = breaker.pass();
        pin_mut!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!(probe.came(Sign::There), None);
        waiting.await.came(Sign::There);
        assert_eq!(breaker.room(5).await, 5);
    }

    #[tokio::test]
    async fn who_asks_to_wait_is_waited_for_and_who_is_gone_is_left() {
        pause();
        let breaker = Breaker::new(0, Duration::from_secs(10));
        for _ in 0..100 {
            assert_eq!(breaker.pass().await.came(Sign::Down), None, "there is no breaker");
        }
        breaker.pass().await.came(Sign::Wait(Duration::from_secs(30)));
        assert!(breaker.pass().now_or_never().is_none());
        advance(Duration::from_secs(31)).await;
        breaker.pass().await.came(Sign::Gone);
        advance(Duration::from_secs(3600)).await;
        assert!(breaker.pass().now_or_never().is_none());
    }
}
