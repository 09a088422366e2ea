//! Which events were left to other members, by this one, in the middle of its handlers.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// How many events are remembered, the last ones.
const KEPT: usize = 256;

/// How often an event is given back at most: by then nobody else is there.
const TIMES: u32 = 16;

/// The events that were left to others, and how often. One of them that comes back to this member, which
/// is through with it, is no event that nobody wants: the others were not asked first.
#[derive(Debug, Default)]
pub(super) struct Left(Mutex<VecDeque<(String, u32)>>);

impl Left {
    /// Notes that an event is left to others.
    pub(super) fn note(&self, id: &str) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= KEPT {
            left.pop_front();
        }
        left.push_back((id.to_owned(), 1));
    }

    /// Tells whether an event was left to others, and is to be once more.
    pub(super) fn is_again(&self, id: &str) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = left.iter().rposition(|(other, _)| other == id) else { return false };
        let times = &mut left[place].1;
        if *times >= TIMES {
            left.remove(place);
            return false;
        }
        *times += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_left_again_so_often_and_the_oldest_is_forgotten() {
        let left = Left::default();
        assert!(!left.is_again("a"), "it was not left");
        left.note("a");
        assert_eq!((0..100).filter(|_| left.is_again("a")).count(), TIMES as usize - 1);
        left.note("b");
        (0..KEPT).for_each(|n| left.note(&n.to_string()));
        assert!(!left.is_again("b") && left.is_again("0"));
    }
}
