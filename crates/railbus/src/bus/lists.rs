//! Lists of subscriptions, as publishing finds them.

use crate::consumer::Entry;
use smallvec::SmallVec;
use std::sync::Arc;

/// Subscriptions in the order they run.
pub(super) type List = Arc<[Arc<Entry>]>;

/// Lists that together hold every subscription that may want an event. Mostly there is one.
#[derive(Clone, Default)]
pub(super) struct Lists<'a> {
    pub(super) first: &'a [Arc<Entry>],
    pub(super) more: SmallVec<[&'a [Arc<Entry>]; 6]>,
}

impl<'a> Lists<'a> {
    pub(super) fn push(&mut self, list: &'a [Arc<Entry>]) {
        if self.first.is_empty() {
            self.first = list;
        } else if !list.is_empty() {
            self.more.push(list);
        }
    }

    /// Adds a list that may be among them.
    pub(super) fn push_once(&mut self, list: &'a [Arc<Entry>]) {
        let same = |other: &[Arc<Entry>]| std::ptr::eq(other, list);
        if !same(self.first) && !self.more.iter().any(|other| same(other)) {
            self.push(list);
        }
    }
}
