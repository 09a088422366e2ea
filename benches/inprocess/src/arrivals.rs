//! Counts what arrives, so that no row measures events that got lost.

use harness::{Result, Timed};
use std::{
    cell::Cell,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire},
    },
};

static ARRIVED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
}

/// Counts one arrival, whichever thread it is on: all that a handler does, about 6 ns.
#[inline]
pub(crate) fn arrive() {
    ARRIVED.fetch_add(1, AcqRel);
}

/// Counts one arrival on this thread.
#[inline]
pub(crate) fn arrive_here() {
    HERE.set(HERE.get() + 1);
}

/// Returns how many arrived on this thread.
pub(crate) fn here() -> u64 {
    HERE.get()
}

/// Returns how many arrived.
pub(crate) fn arrived() -> u64 {
    ARRIVED.load(Acquire)
}

/// Does the work and times it, with what arrived meanwhile.
pub(crate) fn counted(work: impl FnOnce() -> Result<()>) -> Result<Timed> {
    let before = arrived();
    harness::timed(|| {
        work()?;
        Ok(arrived() - before)
    })
}
