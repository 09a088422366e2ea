//! Ids of events: time-ordered when new, derived when the same thing must get the same id again.

#[cfg(feature = "testing")]
use crate::pretend;
use std::{
    cell::Cell,
    fmt,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};
use uuid::Uuid;

/// How many random bits a new id has below its time: 12 + 62.
const RANDOM_BITS: u32 = 74;

thread_local! {
    /// The last id this thread made: its millisecond, and the bits below it.
    static LAST: Cell<(u64, u128)> = const { Cell::new((0, 0)) };
}

/// Returns a new id, a version 7 UUID: later ids of one thread sort later, and those of different
/// threads by their millisecond.
///
/// Within a millisecond, and while the clock stands behind the last id, the bits below the time
/// count on from a random place. Source: RFC 9562, sections 5.7 and 6.2 (method 2).
///
/// # Examples
/// ```
/// use railbus::id::new_id;
///
/// let (first, second) = (new_id(), new_id());
/// assert!(first < second, "ids of a thread are in the order of time");
/// assert_eq!(first.len(), 36);
/// ```
#[must_use]
pub fn new_id() -> String {
    #[cfg(feature = "testing")]
    if let Some(micros) = pretend::wall() {
        return unique_at(u64::try_from(micros / 1000).unwrap_or(0)).to_string();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    unique_at(now.as_millis().try_into().unwrap_or(u64::MAX)).to_string()
}

/// Returns a new id for something that happened at `millis` since 1970.
pub(crate) fn unique_at(millis: u64) -> Uuid {
    let (last, below) = LAST.get();
    let (time, below) = match (millis > last, (below + 1) >> RANDOM_BITS) {
        (true, _) => (millis, seed()),
        (false, 0) => (last, below + 1),
        // All of a millisecond's places were taken: the next one's begin.
        (false, _) => (last + 1, seed()),
    };
    LAST.set((time, below));
    let high = u128::from(time & 0xffff_ffff_ffff) << 80 | 7 << 76 | (below >> 62) << 64;
    Uuid::from_u128(high | 0b10 << 62 | below & ((1 << 62) - 1))
}

/// Forgets the last id of this thread: those that follow come of its time and its chance alone.
#[cfg(feature = "testing")]
pub(crate) fn forget_last() {
    LAST.set((0, 0));
}

/// Returns random bits.
pub(crate) fn chance() -> u128 {
    #[cfg(feature = "testing")]
    if let Some((high, low)) = pretend::random().zip(pretend::random()) {
        return u128::from(high) << 64 | u128::from(low);
    }
    rand::random()
}

/// Returns a random place to count from, in the lower half, so that there is room to count.
fn seed() -> u128 {
    chance() >> (128 - RANDOM_BITS + 1)
}

/// Returns the id that `name` always gets within `space`, a version 5 UUID.
///
/// File inputs derive the id of a line from the file's path and the line's offset, so that reading
/// the line again does not make another event of it. Source: RFC 9562, section 5.5.
///
/// # Examples
/// ```
/// use railbus::id::derived_id;
///
/// assert_eq!(derived_id("orders.ndjson", "892"), derived_id("orders.ndjson", "892"));
/// assert_ne!(derived_id("orders.ndjson", "892"), derived_id("orders.ndjson", "893"));
/// ```
#[must_use]
pub fn derived_id(space: &str, name: &str) -> String {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, space.as_bytes());
    Uuid::new_v5(&space, name.as_bytes()).hyphenated().to_string()
}

/// An event's id: one of ours, which becomes text when someone asks, or any text.
#[derive(Clone)]
pub(crate) enum Id {
    Unique(Uuid, OnceLock<Box<str>>),
    Text(Box<str>),
}

impl Id {
    pub(crate) fn unique_at(millis: u64) -> Self {
        Self::Unique(unique_at(millis), OnceLock::new())
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Unique(uuid, text) => text.get_or_init(|| uuid.to_string().into()),
            Self::Text(text) => text,
        }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unique(a, _), Self::Unique(b, _)) => a == b,
            (a, b) => a.as_str() == b.as_str(),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_thread_sort_in_the_order_they_were_made() {
        let ids: Vec<_> = (0..20_000).map(|_| new_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_make_ids_go_back_or_repeat() {
        let before = unique_at(5_000_000_000_000);
        let after = unique_at(1_000);
        assert!(after > before);
        assert_eq!((after.get_version_num(), after.get_variant()), (7, uuid::Variant::RFC4122));
    }

    #[test]
    fn the_time_is_in_the_first_48_bits() {
        let id = unique_at(6_000_000_000_000);
        assert_eq!(id.as_u128() >> 80, 6_000_000_000_000);
    }

    #[test]
    fn threads_make_different_ids() {
        let make = || std::thread::spawn(|| (0..2000).map(|_| new_id()).collect::<Vec<_>>());
        let threads: Vec<_> = (0..4).map(|_| make()).collect();
        let ids = threads.into_iter().flat_map(|t| t.join().expect("a thread ends"));
        assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), 8000);
    }
}
