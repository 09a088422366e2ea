//! Broadcast subscriptions, found by what their predicates pin.

use super::trie::Trie;
use crate::{
    consumer::Entry,
    event::Event,
    predicate::Clause,
    topic::{Pattern, name_hash},
};
use smallvec::SmallVec;
use std::sync::Arc;

/// Subscriptions in the order they run.
pub(super) type List = Arc<[Arc<Entry>]>;

/// Lists that together hold every subscription that may want an event. Mostly there is one.
#[derive(Default)]
pub(super) struct Lists<'a> {
    pub(super) first: &'a [Arc<Entry>],
    pub(super) more: SmallVec<[&'a [Arc<Entry>]; 6]>,
}

impl<'a> Lists<'a> {
    fn push(&mut self, list: &'a [Arc<Entry>]) {
        if self.first.is_empty() {
            self.first = list;
        } else if !list.is_empty() {
            self.more.push(list);
        }
    }
}

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

/// The longest part that is looked up: its length is a bit of a word.
const PART_MAX: usize = 63;

/// Where a subscription is kept.
enum Place {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Suffix(Arc<str>),
}

impl Index {
    /// Returns the index with `entry` in it as well.
    pub(super) fn with(&self, entry: &Arc<Entry>) -> Self {
        self.changed(entry, &|list| {
            let at = list.partition_point(|e| e.order() < entry.order());
            let (before, after) = list.split_at(at);
            before.iter().chain([entry]).chain(after).cloned().collect()
        })
    }

    /// Returns the index without `entry`.
    pub(super) fn without(&self, entry: &Arc<Entry>) -> Self {
        self.changed(entry, &|list| {
            list.iter().filter(|e| !Arc::ptr_eq(e, entry)).cloned().collect()
        })
    }

    fn changed(&self, entry: &Entry, change: &dyn Fn(&[Arc<Entry>]) -> List) -> Self {
        let mut index = self.clone();
        // A subscription with alternatives is kept under each of them, once.
        let mut seen = Vec::new();
        for clause in entry.predicate.interest().0 {
            let place = place(&clause);
            if !seen.contains(&place) {
                index.change(&place, change);
                seen.push(place);
            }
        }
        let parts = &index.types;
        index.only_types = index.topics.is_empty()
            && index.rest.is_empty()
            && (parts.prefixes.lengths | parts.suffixes.lengths) == 0;
        index
    }

    fn change(&mut self, place: &Option<(Of, Place)>, change: &dyn Fn(&[Arc<Entry>]) -> List) {
        let Some((of, place)) = place else {
            self.rest = change(&self.rest);
            return;
        };
        let names = match of {
            Of::Type => &mut self.types,
            Of::Topic => &mut self.topics,
        };
        match place {
            Place::Exact(name) => drop(change_list(&mut names.exact, name, change)),
            Place::Prefix(part) => names.prefixes.change(part, change),
            Place::Suffix(part) => names.suffixes.change(part, change),
        }
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
        self.exact.is_empty() && self.prefixes.lengths == 0 && self.suffixes.lengths == 0
    }

    #[inline]
    fn exact(&self, name: &str, hash: u64) -> Option<&[Arc<Entry>]> {
        let bucket = self.exact.get(hash, |bucket| *bucket.part == *name)?;
        Some(&bucket.list)
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
            if let Some(bucket) = self.lists.get(name_hash(part), |b| *b.part == *part) {
                lists.push(&bucket.list);
            }
        }
    }

    fn change(&mut self, part: &Arc<str>, change: &dyn Fn(&[Arc<Entry>]) -> List) {
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

/// Changes the list of that name; returns by how many lists there are more, or fewer.
fn change_list(
    lists: &mut Trie<Bucket>,
    part: &Arc<str>,
    change: &dyn Fn(&[Arc<Entry>]) -> List,
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

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Type,
    Topic,
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Suffix(a), Self::Suffix(b)) => a == b,
            _ => false,
        }
    }
}

/// Returns where what this clause wants is found: by the part that says most.
fn place(clause: &Clause) -> Option<(Of, Place)> {
    let parts = [(Of::Type, &clause.event_type), (Of::Topic, &clause.topic)];
    let parts = parts.into_iter().filter_map(|(of, text)| Some((of, part(text.as_deref()?)?)));
    parts.max_by_key(|(of, place)| match (place, of) {
        (Place::Exact(_), Of::Type) => usize::MAX,
        (Place::Exact(_), Of::Topic) => usize::MAX - 1,
        (Place::Prefix(part) | Place::Suffix(part), _) => part.len(),
    })
}

/// Returns what is fixed in every name that the pattern matches, if anything is.
fn part(text: &str) -> Option<Place> {
    if Pattern::new(text).is_exact() {
        return Some(Place::Exact(text.into()));
    }
    let special = |c| matches!(c, '*' | '?' | '[' | ']');
    let first = text.find(special).unwrap_or(0).min(PART_MAX);
    let prefix = &text[..text.floor_char_boundary(first)];
    let last = text.rfind(special).map_or(0, |at| at + 1);
    let suffix = &text[text.ceil_char_boundary(last.max(text.len().saturating_sub(PART_MAX)))..];
    match (prefix.len(), suffix.len()) {
        (0, 0) => None,
        (p, s) if p >= s => Some(Place::Prefix(prefix.into())),
        _ => Some(Place::Suffix(suffix.into())),
    }
}
