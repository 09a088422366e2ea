//! Counters: what one bus did, for progress lines and summaries.

use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard};
use std::sync::{
    PoisonError,
    atomic::Ordering::{Acquire, Relaxed},
};

/// What a bus in this process did since it opened.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, instrument::{Broadcasts, Counter, Counters}};
///
/// let bus = Bus::new();
/// bus.on("tick").run(|_: &Event| {}).now()?;
/// bus.emit(Event::new("tick"))?;
/// bus.emit(Event::new("tock"))?;
/// let counters: &Counters = bus.counters();
/// let broadcasts: &Broadcasts = &counters.broadcasts;
/// assert_eq!((counters.published.get(), broadcasts.unmatched.get()), (2, 1));
///
/// let own = Counter::default();
/// own.one();
/// own.add(2);
/// assert_eq!(own.get(), 3);
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Counters {
    /// Events confirmed by the backend.
    pub published: Counter,
    /// Deliveries begun, redeliveries included.
    pub delivered: Counter,
    /// Subscriptions that handled an event.
    pub succeeded: Counter,
    /// Tries that failed and will be made again.
    pub retried: Counter,
    /// Subscriptions that let an event go.
    pub failed: Counter,
    /// Subscriptions that gave up an event as a dead letter.
    pub dead_lettered: Counter,
    /// Deliveries to a group that nobody in it wanted after all.
    pub unmatched: Counter,
    /// Deliveries to a group that nobody in this process wants, given back for other members.
    pub unrouted: Counter,
    /// Events delivered to subscriptions without a group, each by its worst outcome.
    pub broadcasts: Broadcasts,
}

/// What became of events over all subscriptions without a group.
#[derive(Debug, Default)]
pub struct Broadcasts {
    /// Handled.
    pub succeeded: Counter,
    /// Failed in one subscription at least.
    pub failed: Counter,
    /// Wanted by none.
    pub unmatched: Counter,
    /// Tried more than once.
    pub retried: Counter,
    /// Lines of an input that never became an event.
    pub rejected: Counter,
    /// Let go unseen, since the handlers of their topic were too slow and the backend keeps nothing.
    pub dropped: Counter,
}

/// How many threads count at once without getting into each other's way; the rest share a cell.
const CELLS: usize = 16;

/// A number that only grows. Counting takes no lock, and threads do not share what they write to.
#[derive(Debug, Default)]
pub struct Counter([Cell; CELLS]);

/// A cell on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Cell(AtomicU64);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn one(&self) {
        self.add(1);
    }

    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.add_at(seat(), n);
    }

    /// Adds `n` for the thread of that seat, which must be the caller's.
    #[inline]
    pub(crate) fn add_at(&self, seat: Seat, n: u64) {
        let cell = &self.0[seat.0].0;
        if seat.0 == SHARED {
            cell.fetch_add(n, Relaxed);
        } else {
            // Nobody else writes to this cell while the thread has the seat.
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }

    /// Returns the number. What other threads add at the same moment may or may not be in it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.iter().fold(0, |sum, cell| sum.wrapping_add(cell.0.load(Acquire)))
    }
}

/// The cell of a thread: its own while it lives, or the one shared by those who came too late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat(usize);

const SHARED: usize = CELLS - 1;

/// The seats that nobody has: those that were given back, and those that were never taken.
#[derive(Debug)]
struct Seats {
    free: Mutex<Vec<usize>>,
    taken: AtomicUsize,
}

impl Seats {
    #[cfg(not(all(test, railbus_loom)))]
    const fn new() -> Self {
        Self { free: Mutex::new(Vec::new()), taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> Seat {
        let free = self.free().pop();
        let next = |n| (n < SHARED).then_some(n + 1);
        let next = || self.taken.fetch_update(Relaxed, Relaxed, next).ok();
        Seat(free.or_else(next).unwrap_or(SHARED))
    }

    /// Takes a seat back; its next thread goes on from what the one before counted.
    fn give_back(&self, seat: Seat) {
        if seat.0 != SHARED {
            self.free().push(seat.0);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(all(test, railbus_loom)))]
pub(crate) use of_thread::seat;

/// Each thread's seat, taken when it first counts and given back when it ends.
#[cfg(not(all(test, railbus_loom)))]
mod of_thread {
    use super::{SHARED, Seat, Seats};
    use std::cell::Cell;

    static SEATS: Seats = Seats::new();

    thread_local! {
        static SEAT: Cell<Option<Seat>> = const { Cell::new(None) };
        static HELD: Held = const { Held };
    }

    struct Held;

    impl Drop for Held {
        fn drop(&mut self) {
            if let Some(seat) = SEAT.replace(Some(Seat(SHARED))) {
                SEATS.give_back(seat);
            }
        }
    }

    /// Returns the seat of this thread.
    #[inline]
    pub(crate) fn seat() -> Seat {
        SEAT.get().unwrap_or_else(take_seat)
    }

    #[cold]
    fn take_seat() -> Seat {
        let seat = SEATS.take();
        SEAT.set(Some(seat));
        // A thread that is ending can't give a seat back any more.
        if HELD.try_with(|_| ()).is_err() {
            SEAT.set(Some(Seat(SHARED)));
            SEATS.give_back(seat);
            return Seat(SHARED);
        }
        seat
    }
}

/// The threads of a model share one: they all run on the same thread of the system.
#[cfg(all(test, railbus_loom))]
pub(crate) fn seat() -> Seat {
    Seat(SHARED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_however_many_threads_count() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1000).for_each(|_| counter.one()));
            }
        });
        assert_eq!(counter.get(), 40_000);
    }
}

#[cfg(all(test, railbus_loom))]
mod interleavings {
    use super::*;
    use std::sync::Arc;

    /// Counts in two threads that take a seat each time, so many of which are left.
    fn count(left: usize) {
        loom::model(move || {
            let seats = Seats { free: Mutex::default(), taken: AtomicUsize::new(SHARED - left) };
            let all = Arc::new((seats, Counter::default()));
            let count = |all: &(Seats, Counter)| {
                let seat = all.0.take();
                all.1.add_at(seat, 1);
                all.1.add_at(seat, 1);
                all.0.give_back(seat);
            };
            let other = Arc::clone(&all);
            let other = loom::thread::spawn(move || (0..2).for_each(|_| count(&other)));
            count(&all);
            other.join().unwrap();
            assert_eq!(all.1.get(), 6);
        });
    }

    #[test]
    fn a_seat_that_goes_from_thread_to_thread_loses_no_count() {
        count(1);
        count(2);
    }

    #[test]
    fn who_shares_a_cell_loses_no_count() {
        count(0);
    }
}
