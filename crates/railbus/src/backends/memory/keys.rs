//! Order by key: which events wait for an earlier one of their key.

use smol_str::SmolStr;
use std::collections::{BTreeMap, HashMap};

/// The keys that are held, each with what waits for it.
#[derive(Debug)]
pub(super) struct Keys<T> {
    held: HashMap<SmolStr, Line<T>>,
    waiting: usize,
}

#[derive(Debug)]
struct Line<T> {
    // More than one only where the order was asked for while several were leased.
    holders: usize,
    // By the number of the event.
    behind: BTreeMap<u64, T>,
}

impl<T> Default for Keys<T> {
    fn default() -> Self {
        Self { held: HashMap::new(), waiting: 0 }
    }
}

impl<T> Keys<T> {
    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Returns what waits, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.held.values().flat_map(|line| line.behind.values())
    }

    /// Holds a key, whoever else does.
    pub(super) fn hold(&mut self, key: &str) {
        self.line(key).holders += 1;
    }

    /// Holds a key for an event, which is given back; where another holds it, the event waits.
    pub(super) fn enter(&mut self, key: &str, number: u64, event: T) -> Option<T> {
        let line = self.line(key);
        if line.holders == 0 {
            line.holders = 1;
            return Some(event);
        }
        line.behind.insert(number, event);
        self.waiting += 1;
        None
    }

    /// Lets go of a key; returns the event that holds it from now on, if one has waited.
    pub(super) fn leave(&mut self, key: &str) -> Option<(u64, T)> {
        let line = self.held.get_mut(key)?;
        line.holders = line.holders.saturating_sub(1);
        if line.holders > 0 {
            return None;
        }
        let next = line.behind.pop_first();
        match &next {
            Some(_) => {
                line.holders = 1;
                self.waiting -= 1;
            }
            None => drop(self.held.remove(key)),
        }
        next
    }

    fn line(&mut self, key: &str) -> &mut Line<T> {
        // Most keys are short: they need no allocation.
        let free = || Line { holders: 0, behind: BTreeMap::new() };
        self.held.entry(SmolStr::new(key)).or_insert_with(free)
    }
}
