//! Broadcast subscriptions, found by what their predicates pin.

pub(super) use super::lists::{List, Lists};
use super::{
    grams::Grams,
    place::{Of, PART_MAX, Part, Place, places},
    trie::Trie,
};
use crate::{consumer::Entry, event::Event, topic::name_hash};
use std::sync::Arc;

/// How many a place holds before another is looked for.
const CROWDED: usize = 4;

/// All broadcast subscriptions. A copy costs little, so that a change is a new one.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    types: Names,
    topics: Names,
    /// What pins nothing.
    rest: List,
    /// Whether everything is found by its exact type.
    only_types: bool,
}

/// Subscriptions that pin a part of a name.
#[derive(Clone, Debug, Default)]
struct Names {
    exact: Trie<Bucket>,
    prefixes: Parts,
    suffixes: Parts,
    inner: Grams,
}

/// Subscriptions by how the names they want begin, or end.
#[derive(Clone, Debug, Default)]
struct Parts {
    lists: Trie<Bucket>,
    // One bit for each length of a part that occurs, so that only those are looked up.
    lengths: u64,
    counts: Arc<Vec<u32>>,
}

#[derive(Clone, Debug)]
struct Bucket {
    part: Arc<str>,
    list: List,
}

impl Index {
    /// Returns the index with `entry` in it as well.
    pub(super) fn with(&self, entry: &Arc<Entry>) -> Self {
        let mut index = self.clone();
        // A subscription with alternatives is kept for each of them; one place may do for several.
        for clause in entry.predicate.interest().0 {
            let places = places(&clause);
            if places.iter().any(|place| index.has(place, entry)) {
                continue;
            }
            let room = places.iter().find(|place| index.list(place).len() < CROWDED);
            let least = || places.iter().min_by_key(|place| index.list(place).len());
            index.change(room.or_else(least).unwrap_or(&Place::Rest), |list| {
                let at = list.partition_point(|e| e.order() < entry.order());
                let (before, after) = list.split_at(at);
                before.iter().chain([entry]).chain(after).cloned().collect()
            });
        }
        index
    }

    /// Returns the index without `entry`.
    pub(super) fn without(&self, entry: &Arc<Entry>) -> Self {
        let mut index = self.clone();
        for place in entry.predicate.interest().0.iter().flat_map(places) {
            if index.has(&place, entry) {
                index.change(&place, |list| {
                    list.iter().filter(|e| !Arc::ptr_eq(e, entry)).cloned().collect()
                });
            }
        }
        index
    }

    fn has(&self, place: &Place, entry: &Entry) -> bool {
        self.list(place).binary_search_by_key(&entry.order(), |e| e.order()).is_ok()
    }

    fn list(&self, place: &Place) -> &[Arc<Entry>] {
        let Place::Pinned(of, part) = place else { return &self.rest };
        let names = match of {
            Of::Type => &self.types,
            Of::Topic => &self.topics,
        };
        let list = match part {
            Part::Exact(name) => list_of(&names.exact, name, name_hash(name)),
            Part::Prefix(part) => list_of(&names.prefixes.lists, part, name_hash(part)),
            Part::Suffix(part) => list_of(&names.suffixes.lists, part, name_hash(part)),
            Part::Inner(gram) => names.inner.get(*gram),
        };
        list.map_or(&[], |list| list)
    }

    fn change(&mut self, place: &Place, change: impl FnOnce(&[Arc<Entry>]) -> List) {
        match place {
            Place::Rest => self.rest = change(&self.rest),
            Place::Pinned(Of::Type, part) => self.types.change(part, change),
            Place::Pinned(Of::Topic, part) => self.topics.change(part, change),
        }
        let (types, rest) = (&self.types, self.topics.is_empty() && self.rest.is_empty());
        self.only_types = rest && !types.has_patterns();
    }

    /// Returns those that may want the event, if everything is found by its exact type.
    #[inline]
    pub(super) fn only(&self, event: &Event) -> Option<&[Arc<Entry>]> {
        let exact = || self.types.exact(event.event_type(), event.type_hash());
        self.only_types.then(|| exact().unwrap_or_default())
    }

    /// Returns the lists of those that may want the event; each is to be asked.
    pub(super) fn candidates(&self, event: &Event) -> Lists<'_> {
        let mut lists = Lists::default();
        self.types.candidates(event.event_type(), event.type_hash(), &mut lists);
        if !self.topics.is_empty() {
            self.topics.candidates(event.topic(), event.topic_hash(), &mut lists);
        }
        lists.push(&self.rest);
        lists
    }

    /// Returns the lists of those that may want an event of this type, on the topic of that name.
    pub(super) fn candidates_for(&self, event_type: &str) -> Lists<'_> {
        let (mut lists, hash) = (Lists::default(), name_hash(event_type));
        self.types.candidates(event_type, hash, &mut lists);
        self.topics.candidates(event_type, hash, &mut lists);
        lists.push(&self.rest);
        lists
    }
}

impl Names {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && !self.has_patterns()
    }

    fn has_patterns(&self) -> bool {
        (self.prefixes.lengths | self.suffixes.lengths) != 0 || !self.inner.is_empty()
    }

    #[inline]
    fn exact(&self, name: &str, hash: u64) -> Option<&[Arc<Entry>]> {
        list_of(&self.exact, name, hash).map(|list| &**list)
    }

    fn change(&mut self, part: &Part, change: impl FnOnce(&[Arc<Entry>]) -> List) {
        match part {
            Part::Exact(name) => drop(change_list(&mut self.exact, name, change)),
            Part::Prefix(part) => self.prefixes.change(part, change),
            Part::Suffix(part) => self.suffixes.change(part, change),
            Part::Inner(gram) => self.inner.change(*gram, change),
        }
    }

    fn candidates<'a>(&'a self, name: &str, hash: u64, lists: &mut Lists<'a>) {
        if let Some(list) = self.exact(name, hash) {
            lists.push(list);
        }
        if self.prefixes.lengths != 0 {
            self.prefixes.candidates(|length| name.get(..length), lists);
        }
        if self.suffixes.lengths != 0 {
            let start = |length| name.len().checked_sub(length);
            self.suffixes.candidates(|length| name.get(start(length)?..), lists);
        }
        if !self.inner.is_empty() {
            self.inner.candidates(name, lists);
        }
    }
}

impl Parts {
    fn candidates<'a, 'n>(
        &'a self,
        part: impl Fn(usize) -> Option<&'n str>,
        lists: &mut Lists<'a>,
    ) {
        let mut lengths = self.lengths;
        while lengths != 0 {
            let length = lengths.trailing_zeros() as usize;
            lengths &= lengths - 1;
            let Some(part) = part(length) else { continue };
            if let Some(list) = list_of(&self.lists, part, name_hash(part)) {
                lists.push(list);
            }
        }
    }

    fn change(&mut self, part: &Arc<str>, change: impl FnOnce(&[Arc<Entry>]) -> List) {
        let grown = change_list(&mut self.lists, part, change);
        let counts = Arc::make_mut(&mut self.counts);
        counts.resize(PART_MAX + 1, 0);
        let count = &mut counts[part.len()];
        *count = count.saturating_add_signed(grown);
        match *count {
            0 => self.lengths &= !(1 << part.len()),
            _ => self.lengths |= 1 << part.len(),
        }
    }
}

#[inline]
fn list_of<'a>(lists: &'a Trie<Bucket>, part: &str, hash: u64) -> Option<&'a List> {
    lists.get(hash, |bucket| *bucket.part == *part).map(|bucket| &bucket.list)
}

/// Changes the list of that name; returns by how many lists there are more, or fewer.
fn change_list(
    lists: &mut Trie<Bucket>,
    part: &Arc<str>,
    change: impl FnOnce(&[Arc<Entry>]) -> List,
) -> i32 {
    let mut grown = 0;
    *lists = lists.changed(
        name_hash(part),
        |bucket| bucket.part == *part,
        |bucket| {
            let list = change(bucket.map_or(&[], |bucket| &bucket.list));
            grown = i32::from(!list.is_empty()) - i32::from(bucket.is_some());
            (!list.is_empty()).then(|| Bucket { part: Arc::clone(part), list })
        },
    );
    grown
}
