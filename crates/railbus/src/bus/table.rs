//! The table of subscriptions: an immutable snapshot, replaced as a whole.

use crate::{consumer::Entry, event::Event};
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, PoisonError};

/// Subscriptions in the order they run: priority, then typed before catch-all, then age.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: ArcSwap<Vec<Arc<Entry>>>,
    // Serialises changes; readers never wait for it.
    changing: Mutex<()>,
}

impl Table {
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<Entry>>> {
        self.entries.load_full()
    }

    /// Adds a subscription; false if its group has one of that name.
    pub(super) fn add(&self, entry: Arc<Entry>) -> bool {
        let mut added = false;
        self.change(|entries| {
            let twin = |e: &Arc<Entry>| e.group == entry.group && e.name == entry.name;
            if entry.group.is_some() && entries.iter().any(twin) {
                return;
            }
            let key = |e: &Entry| (e.priority, !e.predicate.is_typed());
            let at = entries.partition_point(|e| key(e) <= key(&entry));
            entries.insert(at, entry);
            added = true;
        });
        added
    }

    /// Removes the subscription with that id; returns it if it was there.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<Entry>> {
        let mut removed = None;
        self.change(|entries| {
            if let Some(at) = entries.iter().position(|e| e.id == id) {
                removed = Some(entries.remove(at));
            }
        });
        removed
    }

    /// Cancels all subscriptions.
    pub(super) fn clear(&self) {
        self.change(|entries| {
            for entry in entries.drain(..) {
                entry.cancel();
            }
        });
    }

    /// Returns the subscriptions of `group` (none: the broadcasts) that want the event.
    pub(super) fn matching(&self, group: Option<&str>, event: &Event) -> Vec<Arc<Entry>> {
        let entries = self.entries.load();
        let wanted = entries.iter().filter(|e| e.group.as_deref() == group && e.wants(event));
        wanted.cloned().collect()
    }

    /// Returns the subscriptions of `group` that want the event; `None` if none of them is
    /// interested in events of its type and topic, so that another member may be.
    pub(super) fn member(&self, group: &str, event: &Event) -> Option<Vec<Arc<Entry>>> {
        let matching = self.matching(Some(group), event);
        let interested = |e: &Arc<Entry>| {
            e.predicate.interest().compile().matches(event.event_type(), event.topic())
        };
        // Interest is compiled only for the few events that nobody here wants.
        let known = !matching.is_empty() || self.of_group(group).iter().any(interested);
        known.then_some(matching)
    }

    /// Returns all subscriptions of `group`.
    pub(super) fn of_group(&self, group: &str) -> Vec<Arc<Entry>> {
        let entries = self.entries.load();
        entries.iter().filter(|e| e.group.as_deref() == Some(group)).cloned().collect()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Entry>>)) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::clone(&self.entries.load());
        change(&mut entries);
        self.entries.store(Arc::new(entries));
    }
}
