//! The values that are there at a point of a way, and the names that were there at another.

use crate::step::Kind;
use std::collections::HashMap;

/// Who leaves a value, and as what.
#[derive(Clone)]
pub(super) struct Left {
    // By its position; none: a value that the pipeline is given.
    pub(super) by: Option<usize>,
    pub(super) kind: Option<Kind>,
}

/// A set of names, a bit each: of a large graph, each jump has one.
#[derive(Clone, Default)]
pub(super) struct Names(Vec<u64>);

/// The values at a point, to go on from there later.
#[derive(Default)]
pub(super) struct Point {
    values: Vec<Option<Left>>,
    names: Names,
}

/// The values that are there, by name.
#[derive(Default)]
pub(super) struct There {
    ids: HashMap<String, usize>,
    // By id: every name there ever was.
    known: Vec<Known>,
    now: Point,
}

struct Known {
    name: String,
    // The type of the value that went by it last, if any did, and whether others' was another.
    kind: Option<Option<Kind>>,
    is_mixed: bool,
}

impl Names {
    fn has(&self, id: usize) -> bool {
        self.0.get(id / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    fn set(&mut self, id: usize, is_there: bool) {
        if self.0.len() <= id / 64 {
            self.0.resize(id / 64 + 1, 0);
        }
        let bit = 1 << (id % 64);
        self.0[id / 64] = if is_there { self.0[id / 64] | bit } else { self.0[id / 64] & !bit };
    }

    /// Keeps what the others have as well.
    pub(super) fn keep(&mut self, others: &Self) {
        self.0.truncate(others.0.len());
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    fn ids(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let rest = std::iter::successors(Some(*word), |word| Some(word & word.checked_sub(1)?));
            let ones = rest.take_while(|word| *word != 0);
            ones.map(move |word| i * 64 + word.trailing_zeros() as usize)
        })
    }

    fn without(&self, others: &Self) -> Self {
        let other = |i: usize| others.0.get(i).copied().unwrap_or(0);
        Self(self.0.iter().enumerate().map(|(i, word)| word & !other(i)).collect())
    }
}

impl There {
    pub(super) fn get(&self, name: &str) -> Option<&Left> {
        self.now.values.get(*self.ids.get(name)?)?.as_ref()
    }

    pub(super) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.now.names.ids().map(|id| &*self.known[id].name)
    }

    pub(super) fn insert(&mut self, name: &str, left: Left) -> Option<Left> {
        let id = self.id(name);
        let known = &mut self.known[id];
        known.is_mixed |= known.kind.is_some_and(|kind| kind != left.kind);
        known.kind = Some(left.kind);
        self.now.put(id, Some(left))
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Left> {
        self.ids.get(name).copied().and_then(|id| self.now.put(id, None))
    }

    /// Tells whether values of several types go by a name, at one place or another.
    pub(super) fn is_mixed(&self, name: &str) -> bool {
        self.ids.get(name).is_some_and(|id| self.known[*id].is_mixed)
    }

    /// Returns the names that are there, and this one.
    pub(super) fn names_and(&mut self, name: &str) -> Names {
        let id = self.id(name);
        let mut names = self.now.names.clone();
        names.set(id, true);
        names
    }

    pub(super) fn leave(&mut self) -> Point {
        std::mem::take(&mut self.now)
    }

    pub(super) fn go_to(&mut self, point: Point) {
        self.now = point;
    }

    /// Returns a point that has the values of another one of these names.
    pub(super) fn part_of(all: &Point, names: &Names) -> Point {
        let mut part = Point::default();
        for id in all.names.ids().filter(|id| names.has(*id)) {
            part.put(id, all.values[id].clone());
        }
        part
    }

    /// Takes away all that has another name; returns what it was.
    pub(super) fn keep(&mut self, names: &Names) -> Vec<String> {
        let gone: Vec<usize> = self.now.names.without(names).ids().collect();
        for id in &gone {
            self.now.put(*id, None);
        }
        gone.into_iter().map(|id| self.known[id].name.clone()).collect()
    }

    fn id(&mut self, name: &str) -> usize {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.known.len();
        self.known.push(Known { name: name.into(), kind: None, is_mixed: false });
        self.ids.insert(name.into(), id);
        id
    }
}

impl Point {
    fn put(&mut self, id: usize, left: Option<Left>) -> Option<Left> {
        if self.values.len() <= id {
            self.values.resize(id + 1, None);
        }
        self.names.set(id, left.is_some());
        std::mem::replace(&mut self.values[id], left)
    }

    /// Keeps the values that are there at another point as well.
    pub(super) fn meet(&mut self, other: &Self) {
        let gone: Vec<usize> = self.names.without(&other.names).ids().collect();
        for id in gone {
            self.put(id, None);
        }
    }
}
