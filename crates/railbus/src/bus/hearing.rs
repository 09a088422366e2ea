//! Knowing which of a few types of event are heard, without looking at the table each time.

use super::open::Bus;
use crate::sync::AtomicU64;
use std::sync::atomic::Ordering;

/// What is remembered: bits in the lowest of the places, above them the change that they belong to.
const BITS: u32 = 16;

/// Remembers which of its types a bus hears, until a subscription of the bus changes.
#[derive(Debug)]
pub(crate) struct Hearing {
    types: &'static [&'static str],
    remembered: AtomicU64,
}

impl Hearing {
    /// Remembers of `types`, at most sixteen, on one bus.
    pub(crate) fn new(types: &'static [&'static str]) -> Self {
        debug_assert!(types.len() <= BITS as usize);
        // No table has changed that often.
        Self { types, remembered: AtomicU64::new(u64::MAX) }
    }

    /// Tells whether a broadcast subscription on `bus`, always the same one, may want events of the
    /// type at `place`.
    #[inline]
    pub(crate) fn hears(&self, bus: &Bus, place: usize) -> bool {
        // Read before the table is: what is found then is as new as this, or newer.
        let changes = bus.0.table.changes();
        let remembered = self.remembered.load(Ordering::Relaxed);
        let bits = match remembered >> BITS == changes {
            true => remembered,
            false => self.look(bus, changes),
        };
        bits >> place & 1 == 1
    }

    #[cold]
    fn look(&self, bus: &Bus, changes: u64) -> u64 {
        let now = bus.0.table.now();
        let heard = |(place, event_type): (usize, &&str)| u64::from(now.hears(event_type)) << place;
        let bits = self.types.iter().enumerate().map(heard).fold(0, |all, bit| all | bit);
        self.remembered.store(changes << BITS | bits, Ordering::Relaxed);
        bits
    }
}
