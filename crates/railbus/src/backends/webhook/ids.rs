//! Which events were here already, by their ids.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// What is known of an id.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// It is in hand.
    Running,
    /// It was handled.
    Done,
    /// It must come again.
    Again(Again),
}

/// What is kept of an event that must come again.
#[derive(Clone, Debug)]
pub(super) struct Again {
    /// How often it was tried.
    pub(super) tried: u32,
    /// Whether its last lease ran out unsettled.
    pub(super) lost: bool,
    /// When it may.
    pub(super) not_before: Instant,
    /// The subscriptions that are through with it.
    pub(super) finished: Vec<String>,
}

impl Again {
    /// What is known of an event that was never here.
    pub(super) fn begun_anew(now: Instant) -> Self {
        Self { tried: 0, lost: false, not_before: now, finished: Vec::new() }
    }
}

/// What is known of ids, for a time, and of so many at most: the oldest go first, none that runs.
#[derive(Debug)]
pub(super) struct Ids {
    known: HashMap<Arc<str>, (Instant, Known)>,
    order: VecDeque<(Instant, Arc<str>)>,
    keep: Duration,
    most: usize,
}

impl Ids {
    pub(super) fn new(keep: Duration, most: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), keep, most }
    }

    pub(super) fn get(&self, id: &str, now: Instant) -> Option<&Known> {
        let (at, known) = self.known.get(id)?;
        let is_old = !matches!(known, Known::Running) && now.duration_since(*at) >= self.keep;
        (!is_old).then_some(known)
    }

    pub(super) fn runs(&mut self, id: &Arc<str>, now: Instant) {
        self.known.insert(Arc::clone(id), (now, Known::Running));
    }

    /// Notes what became of one that ran.
    pub(super) fn note(&mut self, id: &Arc<str>, known: Known, now: Instant) {
        self.known.insert(Arc::clone(id), (now, known));
        self.order.push_back((now, Arc::clone(id)));
        while let Some((at, _)) = self.order.front() {
            if self.order.len() <= self.most && now.duration_since(*at) < self.keep {
                return;
            }
            let Some((at, id)) = self.order.pop_front() else { return };
            // One that came again since has a later place, or none as long as it runs.
            let is_it = |(known_at, known): &(Instant, Known)| {
                *known_at == at && !matches!(known, Known::Running)
            };
            if self.known.get(&id).is_some_and(is_it) {
                self.known.remove(&id);
            }
        }
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.known.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_and_none_that_runs() {
        let (mut ids, now) = (Ids::new(Duration::from_secs(10), 3), Instant::now());
        let all: Vec<Arc<str>> = (0..5).map(|n| n.to_string().into()).collect();
        ids.runs(&all[0], now);
        for id in &all {
            if !matches!(ids.get(id, now), Some(Known::Running)) {
                ids.note(id, Known::Done, now);
            }
        }
        let known: Vec<_> = all.iter().map(|id| ids.get(id, now).is_some()).collect();
        assert_eq!(known, [true, false, true, true, true]);
        let later = now + Duration::from_secs(10);
        assert!(ids.get(&all[4], later).is_none() && ids.get(&all[0], later).is_some());
        ids.note(&all[0], Known::Done, later);
        assert_eq!((ids.known.len(), ids.order.len()), (1, 1), "what is old is let go");
    }
}
