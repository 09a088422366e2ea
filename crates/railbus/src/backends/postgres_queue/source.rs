//! A member of a group.

use super::{
    claim::{Look, Member, Next, Seen, claim},
    lines::Lines,
    settle::settle,
    wake::Wake,
};
use crate::{
    backend::{Leased, Settle, Source, Verdict},
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_postgres::types::Type;

/// How often a quiet member says that it is there.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// How often leases that ran out are looked for while there is other work.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often all of them are looked for, where that takes no time to speak of, and at least.
const LOOK_FULLY_EVERY: Duration = Duration::from_secs(10);
const LOOK_FULLY_AT_LEAST: Duration = Duration::from_secs(5 * 60);

/// How many times as long as such a look took there is none: while a transaction is held open it goes
/// through all that there was.
const LOOK_FULLY_RESTS: u32 = 20;

/// A member of a group.
#[derive(Debug)]
pub(super) struct GroupSource {
    pub(super) member: Member,
    pub(super) name: String,
    /// Whether its group keeps the order of keys: what is settled may free what waits.
    pub(super) keyed: bool,
    pub(super) lines: Arc<Lines>,
    pub(super) wake: Arc<Wake>,
    pub(super) stopped: watch::Sender<bool>,
    pub(super) times: Mutex<Times>,
}

/// When a member last did what it does now and then, and how far it has looked.
#[derive(Debug)]
pub(super) struct Times {
    touched: Instant,
    looked: Option<Instant>,
    looked_fully: Option<Instant>,
    // How long that took the server.
    full_look: Duration,
    seen: Seen,
}

impl Default for Times {
    fn default() -> Self {
        let (touched, full_look, seen) = (Instant::now(), Duration::ZERO, Seen::default());
        Self { touched, looked: None, looked_fully: None, full_look, seen }
    }
}

impl Times {
    /// Tells how far to look now; `idle` if there was nothing else to do.
    fn look(&mut self, idle: bool) -> Look {
        let over = |last: Option<Instant>, every| last.is_none_or(|at| at.elapsed() >= every);
        let look = if over(self.looked_fully, self.fully_every()) {
            Look::Full
        } else if idle || over(self.looked, LOOK_EVERY) {
            Look::Lately
        } else {
            return Look::No;
        };
        let now = Some(Instant::now());
        self.looked = now;
        self.looked_fully = if look == Look::Full { now } else { self.looked_fully };
        look
    }

    /// Returns how long there is no full look after one.
    fn fully_every(&self) -> Duration {
        let rest = self.full_look.saturating_mul(LOOK_FULLY_RESTS);
        rest.clamp(LOOK_FULLY_EVERY, LOOK_FULLY_AT_LEAST)
    }
}

impl GroupSource {
    /// Tells the store now and then that this member is there, so that `groups ls` does not show
    /// a quiet group as an abandoned one.
    async fn touch(&self) -> Result<()> {
        {
            let mut times = self.times();
            if times.touched.elapsed() < TOUCH_EVERY {
                return Ok(());
            }
            times.touched = Instant::now();
        }
        let values: [super::lines::Value<'_>; 1] = [(&self.member.group, Type::INT4)];
        let statement = "UPDATE @.groups SET seen = @.now_micros() WHERE id = $1";
        self.lines.query("fetch", statement, &values).await.map(drop)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}

#[async_trait]
impl Source for GroupSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut news = self.wake.news();
        let mut idle = false;
        while !self.is_stopped() {
            news.mark_unchanged();
            let look = self.times().look(idle);
            let seen = self.times().seen;
            let claimed = claim(&self.lines, &self.member, max, look, seen).await?;
            {
                let mut times = self.times();
                times.seen = claimed.seen;
                times.full_look = if look == Look::Full { claimed.took } else { times.full_look };
            }
            if !claimed.leased.is_empty() {
                return Ok(claimed.leased);
            }
            let limit = match claimed.next {
                Next::Now => continue,
                Next::In(wait) => wait.min(self.wake.poll()),
                Next::OnNews if look == Look::No => LOOK_EVERY.min(self.wake.poll()),
                Next::OnNews => self.wake.poll(),
                Next::Gone => {
                    let why = "the group was pruned while it was open";
                    return Err(Error::new(ErrorKind::NotFound, "fetch", why)
                        .with("group", &self.name)
                        .hint("start the program again to open it anew"));
                }
            };
            self.touch().await?;
            let before = *news.borrow();
            Wake::wait(&mut news, &self.stopped, limit).await;
            // Told of work: that comes first.
            idle = *news.borrow() == before;
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let gives_back = batch
            .iter()
            .any(|s| matches!(s.verdict, Verdict::Release { .. } | Verdict::Nack { .. }));
        let settled = settle(&self.lines, &self.member, batch).await;
        if gives_back || self.keyed {
            self.wake.everyone(&self.lines);
        }
        let told =
            |kept: Result<bool>| kept.and_then(|kept| if kept { Ok(()) } else { Err(stale()) });
        settled.into_iter().map(told).collect()
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        // Whoever waits for this group's leases may look again.
        self.wake.here();
        Ok(())
    }
}

fn stale() -> Error {
    Error::new(ErrorKind::Stale, "settle", "the lease was lost: the event is another member's now")
}

#[cfg(test)]
mod tests {
    use super::{LOOK_FULLY_AT_LEAST, LOOK_FULLY_EVERY, Times};
    use std::time::Duration;

    #[test]
    fn a_full_look_is_put_off_by_what_the_last_one_took_but_never_for_long() {
        let after = |full_look| Times { full_look, ..Times::default() }.fully_every();
        assert_eq!(after(Duration::ZERO), LOOK_FULLY_EVERY);
        assert_eq!(after(Duration::from_secs(1)), Duration::from_secs(20));
        for long in [Duration::from_secs(60), Duration::MAX] {
            assert_eq!(after(long), LOOK_FULLY_AT_LEAST);
        }
    }
}
