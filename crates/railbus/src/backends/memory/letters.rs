//! Dead letters: the latest, as many as memory keeps.

use crate::{
    backend::{Letter, LetterFilter, LetterId},
    event::Event,
};
use std::collections::BTreeMap;

/// How many dead letters are kept, of all groups together: the latest.
pub(super) const LETTERS_MAX: usize = 10_000;

/// The dead letters, by number.
#[derive(Debug, Default)]
pub(super) struct Letters {
    made: u64,
    kept: BTreeMap<u64, Letter>,
}

impl Letters {
    /// Keeps a letter under an id of its own; returns the oldest if it gives way.
    pub(super) fn add(&mut self, make: impl FnOnce(LetterId) -> Letter) -> Option<Letter> {
        self.made += 1;
        self.kept.insert(self.made, make(LetterId::new(self.made.to_string())));
        let full = self.kept.len() > LETTERS_MAX;
        full.then(|| self.kept.pop_first()).flatten().map(|(_, letter)| letter)
    }

    /// Returns the letters that `filter` takes, oldest first.
    pub(super) fn list(&self, filter: &LetterFilter) -> Vec<Letter> {
        let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        self.kept.values().filter(|letter| filter.takes(letter)).take(limit).cloned().collect()
    }

    /// Takes out a letter that can be handed back: the group, the subscription and the event.
    pub(super) fn take(
        &mut self,
        id: &LetterId,
        can: impl FnOnce(&str) -> bool,
    ) -> Option<(String, String, Event)> {
        let number = number(id)?;
        let letter = self.kept.get(&number)?;
        let (group, event) = (letter.group.clone()?, letter.event.clone()?);
        if !can(&group) {
            return None;
        }
        self.kept.remove(&number).map(|letter| (group, letter.subscription, event))
    }

    /// Deletes a letter and returns it if it was there.
    pub(super) fn delete(&mut self, id: &LetterId) -> Option<Letter> {
        self.kept.remove(&number(id)?)
    }

    /// Takes out the letters of a group.
    pub(super) fn of_group(&mut self, group: &str) -> Vec<Letter> {
        self.kept
            .extract_if(.., |_, letter| letter.group.as_deref() == Some(group))
            .map(|(_, letter)| letter)
            .collect()
    }

    /// Counts the letters of a group.
    pub(super) fn count(&self, group: &str) -> u64 {
        self.kept.values().filter(|letter| letter.group.as_deref() == Some(group)).count() as u64
    }
}

/// Returns the number of a letter; what is no number is no letter of this memory.
fn number(id: &LetterId) -> Option<u64> {
    id.as_str().parse().ok()
}
