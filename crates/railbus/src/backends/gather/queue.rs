//! How many requests are on their way, what waits for the next, and how much of it goes along.

use super::request::{Limits, Waiting};
use std::collections::VecDeque;

/// Those on their way, counted, and those that wait.
pub(super) struct Queue<T> {
    /// Requests on their way.
    pub(super) flying: usize,
    /// Whose items are on their way, one for each call.
    aboard: usize,
    pub(super) waiting: VecDeque<Waiting<T>>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { flying: 0, aboard: 0, waiting: VecDeque::new() }
    }

    /// Takes a place for one caller's request beside those on their way, if there is one.
    pub(super) fn take_place(&mut self, limits: &Limits) -> bool {
        let is_free = self.flying == 0 || (self.flying < limits.flights && !self.is_enough(limits));
        if is_free {
            self.flying += 1;
            self.aboard += 1;
        }
        is_free
    }

    /// Returns what goes with the next request of a place whose last one, of so many callers, is back;
    /// if nothing waits, or enough is on its way without it, the place is free again.
    pub(super) fn next(&mut self, limits: &Limits, callers: usize) -> Option<Vec<Waiting<T>>> {
        self.aboard -= callers;
        if self.waiting.is_empty() || (self.flying > 1 && self.is_enough(limits)) {
            self.flying -= 1;
            return None;
        }
        let (mut items, mut weight) = (0, 0);
        let fits = |one: &Waiting<T>| {
            items += one.items.len();
            weight += one.weight;
            items <= limits.items && weight <= limits.weight
        };
        // The first goes whatever its size.
        let count = self.waiting.iter().map(fits).take_while(|fits| *fits).count().max(1);
        self.aboard += count;
        Some(self.waiting.drain(..count).collect())
    }

    /// Lets go of a place whose request, of so many callers, never came back.
    pub(super) fn free_place(&mut self, callers: usize) {
        self.flying -= 1;
        self.aboard -= callers;
    }

    fn is_enough(&self, limits: &Limits) -> bool {
        self.aboard >= limits.callers
    }
}
