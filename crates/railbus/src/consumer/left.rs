//! Which events were left to other members, by this one, in the middle of its handlers.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How often an event is left to others at least, before nobody is taken to be there.
const TIMES: u32 = 16;

/// For how long at least: one that wants it may be busy, or begin anew. The waits between so many times
/// are longer than this together, unless leases are short.
const PATIENCE: Duration = Duration::from_secs(4 * 60);

/// After how long one that does not come back is another's for good, and is forgotten.
const GONE_AFTER: Duration = Duration::from_secs(60 * 60);

/// How many are remembered before it is first looked which of them may be forgotten.
const LOOK_AT: usize = 1024;

/// The events that were left to others, and how often. One of them that comes back to this member, which
/// is through with it, is no event that nobody wants: the others were not asked first.
#[derive(Debug, Default)]
pub(super) struct Left(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    events: HashMap<Box<str>, Times>,
    // How many there were when it was last looked which may be forgotten.
    looked_at: usize,
}

#[derive(Debug)]
struct Times {
    count: u32,
    first: Instant,
    last: Instant,
}

impl Kept {
    fn add(&mut self, id: &str) {
        let now = Instant::now();
        if self.events.len() >= LOOK_AT.max(self.looked_at * 2) {
            self.events.retain(|_, times| now - times.last < GONE_AFTER);
            self.looked_at = self.events.len();
        }
        self.events.insert(id.into(), Times { count: 1, first: now, last: now });
    }
}

impl Left {
    /// Notes that an event is left to others.
    pub(super) fn note(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(id);
    }

    /// Notes that an event is given back once more, and returns how often it was.
    pub(super) fn count(&self, id: &str) -> u32 {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = kept.events.get_mut(id) else {
            kept.add(id);
            return 1;
        };
        (times.count, times.last) = (times.count.saturating_add(1), Instant::now());
        times.count
    }

    /// Returns how often an event was given back.
    pub(super) fn times(&self, id: &str) -> u32 {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.events.get(id).map_or(0, |times| times.count)
    }

    /// Returns the how manieth time it is that an event is left to others, if it was and is to be once
    /// more.
    pub(super) fn again(&self, id: &str) -> Option<u32> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = kept.events.get_mut(id)?;
        if times.count >= TIMES && times.first.elapsed() >= PATIENCE {
            kept.events.remove(id);
            return None;
        }
        times.count = times.count.saturating_add(1);
        times.last = Instant::now();
        Some(times.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn what_was_left_is_left_again_so_often_and_so_long() {
        let left = Left::default();
        assert_eq!(left.again("a"), None, "it was not left");
        left.note("a");
        assert_eq!((2..=100).find(|n| left.again("a") != Some(*n)), None, "in no time");
        advance(PATIENCE).await;
        assert_eq!(left.again("a"), None);
        left.note("a");
        advance(PATIENCE).await;
        assert_eq!((0..100).filter(|_| left.again("a").is_some()).count(), TIMES as usize - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_are_left_none_is_forgotten_but_what_does_not_come_back() {
        let left = Left::default();
        let all = || (0..5 * LOOK_AT).map(|n| n.to_string());
        all().for_each(|id| left.note(&id));
        assert!(all().all(|id| left.again(&id).is_some()));
        advance(GONE_AFTER).await;
        all().for_each(|id| left.note(&format!("{id} of later")));
        assert!(all().all(|id| left.again(&format!("{id} of later")).is_some()));
        assert_eq!(left.again("0"), None);
        assert!(left.0.lock().unwrap().events.len() <= 5 * LOOK_AT);
    }
}
