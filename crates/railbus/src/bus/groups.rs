//! Subscriptions with a group: found like broadcasts, in all groups together and in each by itself.

use super::{
    index::{Index, Lists},
    matches::Matches,
    trie::Trie,
};
use crate::{
    consumer::{Entry, Order},
    event::Event,
    topic::name_hash,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// The subscriptions of all groups. A copy costs little, so that a change is a new one.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    all: Index,
    each: Trie<Arc<Group>>,
    count: usize,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    index: Index,
    count: usize,
}

impl Groups {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the groups with `entry` in that group as well.
    pub(super) fn with(&self, group: &Arc<str>, entry: &Arc<Entry>) -> Self {
        let each = self.changed(group, |index, count| (index.with(entry), count + 1));
        Self { all: self.all.with(entry), each, count: self.count + 1 }
    }

    /// Returns the groups without `entry`, which is in that one.
    pub(super) fn without(&self, group: &Arc<str>, entry: &Arc<Entry>) -> Self {
        let each = self.changed(group, |index, count| (index.without(entry), count - 1));
        Self { all: self.all.without(entry), each, count: self.count - 1 }
    }

    fn changed(
        &self,
        name: &Arc<str>,
        change: impl FnOnce(&Index, usize) -> (Index, usize),
    ) -> Trie<Arc<Group>> {
        let change = |group: Option<&Arc<Group>>| {
            let (index, count) = match group {
                Some(group) => change(&group.index, group.count),
                None => change(&Index::default(), 0),
            };
            (count > 0).then(|| Arc::new(Group { name: Arc::clone(name), index, count }))
        };
        self.each.changed(name_hash(name), |group| group.name == *name, change)
    }

    /// Returns the lists of those of one group that may want the event; none if there is no such
    /// group.
    pub(super) fn candidates(&self, group: &str, event: &Event) -> Option<Lists<'_>> {
        let group = self.each.get(name_hash(group), |other| *other.name == *group)?;
        Some(group.index.candidates(event))
    }

    /// Returns the lists of those that may want an event of this type, on the topic of that name.
    pub(super) fn candidates_for(&self, event_type: &str) -> Lists<'_> {
        self.all.candidates_for(event_type)
    }

    /// Returns how many want the event.
    pub(super) fn wanting(&self, event: &Event) -> usize {
        let lists = match self.all.only(event) {
            Some(first) => Lists { first, ..Lists::default() },
            None => self.all.candidates(event),
        };
        Matches::new(lists).filter(|entry| entry.wants(event)).count()
    }
}

/// Who is in which group, for those who change it or open it.
#[derive(Debug, Default)]
pub(super) struct Rosters(HashMap<Arc<str>, Roster>);

#[derive(Debug, Default)]
struct Roster {
    in_order: BTreeMap<Order, Arc<Entry>>,
    names: HashSet<Arc<str>>,
}

impl Rosters {
    /// Tells whether a subscription of that group has this name.
    pub(super) fn has(&self, group: &str, name: &str) -> bool {
        self.0.get(group).is_some_and(|roster| roster.names.contains(name))
    }

    pub(super) fn add(&mut self, group: &Arc<str>, entry: &Arc<Entry>) {
        let roster = self.0.entry(Arc::clone(group)).or_default();
        roster.names.insert(Arc::clone(&entry.name));
        roster.in_order.insert(entry.order(), Arc::clone(entry));
    }

    pub(super) fn remove(&mut self, group: &str, entry: &Entry) {
        let Some(roster) = self.0.get_mut(group) else { return };
        roster.names.remove(&entry.name);
        roster.in_order.remove(&entry.order());
        if roster.in_order.is_empty() {
            self.0.remove(group);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the subscriptions of a group, in the order they run.
    pub(super) fn of(&self, group: &str) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.get(group).into_iter().flat_map(|roster| roster.in_order.values())
    }
}
