//! What was published with a delay and was never handed out, found by its id.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
};
use tokio::time::Instant;

/// Where such events wait: the hash of their id, the time they are due, their number.
///
/// Hashes may be alike, so that what is found must be compared; ids may be long and are not kept.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    hashes: RandomState,
    places: BTreeSet<(u64, Instant, u64)>,
}

impl HeldBack {
    pub(super) fn add(&mut self, event_id: &str, due: Instant, number: u64) {
        self.places.insert((self.hashes.hash_one(event_id), due, number));
    }

    pub(super) fn remove(&mut self, event_id: &str, due: Instant, number: u64) {
        // Mostly there is none, and nothing need be hashed.
        if !self.places.is_empty() {
            self.places.remove(&(self.hashes.hash_one(event_id), due, number));
        }
    }

    /// Returns where events wait that may have this id and are due later than `now`.
    pub(super) fn find(&self, event_id: &str, now: Instant) -> Vec<(Instant, u64)> {
        if self.places.is_empty() {
            return Vec::new();
        }
        let hash = self.hashes.hash_one(event_id);
        let behind = self.places.range((hash, now, u64::MAX)..);
        let alike = behind.take_while(|(found, due, _)| *found == hash && *due > now);
        alike.map(|(_, due, number)| (*due, *number)).collect()
    }
}
