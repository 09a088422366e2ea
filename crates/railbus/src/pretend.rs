//! What a test has in place of the clock and of chance: on its own thread, and the clock also on
//! those that its runtime starts for work that blocks.

use std::{cell::Cell, time::Duration};
use tokio::time::Instant;

thread_local! {
    /// What the wall clock showed at a point of the runtime's time, in microseconds.
    static WALL: Cell<Option<(Instant, i64)>> = const { Cell::new(None) };
    /// Where the numbers have got to that stand for chance.
    static CHANCE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A wall clock that goes with the time of a runtime.
pub(crate) type Wall = (Instant, i64);

/// Sets the wall clock of this thread; none is the system's.
pub(crate) fn set_wall(wall: Option<Wall>) {
    WALL.set(wall);
}

/// Returns the wall clock of this thread, to be set again.
pub(crate) fn wall_now() -> Option<Wall> {
    WALL.get()
}

/// Tells whether this thread has a wall clock of its own.
pub(crate) fn has_wall() -> bool {
    WALL.get().is_some()
}

/// Returns what this thread's own wall clock shows, in microseconds since 1970.
pub(crate) fn wall() -> Option<i64> {
    let (since, then) = WALL.get()?;
    Some(then.saturating_add(micros(since.elapsed())))
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// Sets what chance is on this thread; none is the system's.
pub(crate) fn set_chance(seed: Option<u64>) {
    CHANCE.set(seed);
}

/// Returns the next number of this thread's own chance. Source: Steele, Lea and Flood, "Fast
/// Splittable Pseudorandom Number Generators" (SplitMix64).
pub(crate) fn random() -> Option<u64> {
    let state = CHANCE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(Some(state));
    Some(mixed(state))
}

/// Mixes the bits of a number, so that numbers side by side have nothing in common.
pub(crate) fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
