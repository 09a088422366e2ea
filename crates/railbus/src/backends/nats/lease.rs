//! What a member holds, and for how long.

use super::{
    held::Record,
    pull::Came,
    streams::Streams,
    word::{PROGRESS, nak, say},
};
use async_nats::Message;
use bytes::Bytes;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How many acknowledgements are remembered. The server writes them down ten times a second.
const DONE_MAX: usize = 32_768;

/// Leases that differ by less are the same, divided by something and multiplied again.
pub(super) const ALIKE: Duration = Duration::from_millis(1);

/// What a member knows.
#[derive(Debug, Default)]
pub(super) struct State {
    /// When the stream was made that all this is of.
    pub(super) born: String,
    pub(super) held: HashMap<u64, Held>,
    // Counts the leases.
    pub(super) fence: u64,
    // What was pulled, and could not be looked at yet.
    pub(super) unread: Vec<Came>,
    pub(super) done: Done,
}

/// The latest events that this member acknowledged: a server that is killed may have confirmed that, and
/// not written it down.
#[derive(Debug, Default)]
pub(super) struct Done {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Done {
    pub(super) fn has(&self, seq: u64) -> bool {
        self.all.contains(&seq)
    }

    pub(super) fn add(&mut self, seq: u64) {
        if self.all.insert(seq) {
            self.order.push_back(seq);
        }
        if self.order.len() > DONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

/// An event that is leased.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) fence: u64,
    pub(super) delivered: u64,
    pub(super) attempt: u32,
    pub(super) record: Record,
    /// Whether the desk has a record of it.
    pub(super) is_remembered: bool,
    pub(super) ack: Arc<str>,
    pub(super) message: Arc<Message>,
    // When the lease ends, and until when the server is sure to keep it.
    pub(super) ends: Instant,
    pub(super) sure: Instant,
}

impl Held {
    /// Returns when the lease ends for this member.
    pub(super) fn until(&self) -> Instant {
        self.ends.min(self.sure)
    }

    /// Notes that the lease began anew.
    pub(super) fn extend(&mut self, at: Instant, lease: Duration, ack_wait: Duration) {
        (self.ends, self.sure) = (far(at, lease), far(at, ack_wait));
    }
}

pub(super) fn far(at: Instant, after: Duration) -> Instant {
    at.checked_add(after).unwrap_or(at + Duration::from_secs(365 * 24 * 60 * 60))
}

/// Keeps leases that are longer than the group's: the server is told in time, for as long as they last.
pub(super) async fn keep(streams: Arc<Streams>, state: Arc<Mutex<State>>, ack_wait: Duration) {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        sleep(ack_wait / 3).await;
        let at = Instant::now();
        let mut words = Vec::new();
        let mut seqs = Vec::new();
        for (seq, held) in lock().held.iter().filter(|(_, held)| at < held.until()) {
            words.push((Arc::clone(&held.ack), Bytes::from_static(PROGRESS)));
            seqs.push((*seq, held.fence));
        }
        if say(&streams.api.link, words).await.is_err() {
            continue;
        }
        let mut state = lock();
        for (seq, fence) in seqs {
            if let Some(held) = state.held.get_mut(&seq).filter(|held| held.fence == fence) {
                held.sure = far(at, ack_wait);
            }
        }
    }
}

/// Gives back what a lease that is shorter than the group's has run out for.
pub(super) async fn expire(streams: Arc<Streams>, state: Arc<Mutex<State>>, lease: Duration) {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        sleep((lease / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))).await;
        let now = Instant::now();
        let mut words = Vec::new();
        lock().held.retain(|_, held| {
            let is_over = now >= held.ends;
            if is_over {
                words.push((Arc::clone(&held.ack), nak(Duration::ZERO)));
            }
            !is_over
        });
        if let Err(error) = say(&streams.api.link, words).await {
            tracing::debug!(%error, "what has run out comes again when the group's lease has");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let mut done = Done::default();
        (0..=DONE_MAX as u64).for_each(|seq| done.add(seq));
        assert!(!done.has(0) && done.has(1) && done.has(DONE_MAX as u64));
        done.add(1);
        assert_eq!(done.order.len(), DONE_MAX);
    }
}
