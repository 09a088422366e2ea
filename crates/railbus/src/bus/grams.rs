//! Subscriptions by what the names they want contain, wherever it stands.

use super::{
    lists::{List, Lists},
    trie::Trie,
};
use crate::consumer::Entry;
use std::sync::Arc;

/// How long the pieces are that are looked up at each place of a name; of longer text one piece
/// is enough.
const LENGTHS: [usize; 3] = [8, 4, 2];

/// Subscriptions by a piece of text: for each length a map of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Grams([Trie<List>; LENGTHS.len()]);

/// A piece of text that stands somewhere in the names wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gram {
    kind: usize,
    // Of the whole piece: two pieces of one length never share it.
    hash: u64,
}

impl Gram {
    /// Returns the pieces of `texts`: all those of the greatest length that occurs.
    pub(super) fn all(texts: &[&str]) -> Vec<Self> {
        let of = |kind: usize| {
            let hashes = texts.iter().flat_map(move |text| hashes(text, LENGTHS[kind]));
            hashes.map(move |hash| Self { kind, hash }).collect()
        };
        let mut kinds = (0..LENGTHS.len()).map(of);
        kinds.find(|grams: &Vec<_>| !grams.is_empty()).unwrap_or_default()
    }

    /// Returns how many bytes it has.
    pub(super) fn len(self) -> usize {
        LENGTHS[self.kind]
    }
}

impl Grams {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Trie::is_empty)
    }

    pub(super) fn get(&self, gram: Gram) -> Option<&List> {
        self.0[gram.kind].get(gram.hash, |_| true)
    }

    pub(super) fn change(&mut self, gram: Gram, change: impl FnOnce(&[Arc<Entry>]) -> List) {
        let lists = &mut self.0[gram.kind];
        let change = |list: Option<&List>| {
            let list = change(list.map_or(&[], |list| list));
            (!list.is_empty()).then_some(list)
        };
        *lists = lists.changed(gram.hash, |_| true, change);
    }

    /// Adds the lists of all pieces that `name` contains.
    pub(super) fn candidates<'a>(&'a self, name: &str, lists: &mut Lists<'a>) {
        for (trie, length) in self.0.iter().zip(LENGTHS) {
            if trie.is_empty() {
                continue;
            }
            for hash in hashes(name, length) {
                if let Some(list) = trie.get(hash, |_| true) {
                    lists.push_once(list);
                }
            }
        }
    }
}

/// Returns the hashes of all pieces of that length, in their order.
fn hashes(text: &str, length: usize) -> impl Iterator<Item = u64> {
    let mask = u64::MAX >> (u64::BITS as usize - 8 * length);
    let mut piece = 0;
    let pieces = text.bytes().map(move |byte| {
        piece = (piece << 8 | u64::from(byte)) & mask;
        piece
    });
    pieces.skip(length - 1).map(mixed)
}

/// Spreads a piece over all bits, by steps that can be undone: different pieces stay different.
fn mixed(piece: u64) -> u64 {
    let piece = (piece ^ piece >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    piece ^ piece >> 29
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_its_pieces_of_the_greatest_length_that_fits() {
        for (texts, length, pieces) in [
            (&["a"][..], 0, 0),
            (&["a", "ab"], 2, 1),
            (&["abc", "de"], 2, 3),
            (&["abcdefg"], 4, 4),
            (&["ä.ö.ü.", "ab"], 8, 2),
        ] {
            let grams = Gram::all(texts);
            assert_eq!(grams.len(), pieces, "{texts:?}");
            assert!(grams.iter().all(|gram| gram.len() == length), "{texts:?}");
        }
    }

    #[test]
    fn pieces_are_the_same_wherever_they_stand_and_differ_else() {
        let of = |text, length| hashes(text, length).collect::<Vec<_>>();
        assert_eq!(of("xxabcd", 4)[2..], of("abcd", 4));
        assert_eq!(of("xabcdefgh", 8)[1..], of("abcdefgh", 8));
        let mut all: Vec<_> = (0..=u16::MAX).map(|n| mixed(u64::from(n))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 65_536);
    }
}
