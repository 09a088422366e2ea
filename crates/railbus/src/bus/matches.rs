//! The subscriptions that may want an event, in the order they run.

use super::index::Lists;
use crate::consumer::{Entry, Order};
use std::sync::Arc;

/// Merges sorted lists as it goes, so that publishing sorts and allocates nothing.
pub(super) struct Matches<'a> {
    lists: Lists<'a>,
    // One that is kept in several lists comes up once.
    last: Option<Order>,
}

impl<'a> Matches<'a> {
    pub(super) fn new(lists: Lists<'a>) -> Self {
        Self { lists, last: None }
    }
}

impl<'a> Iterator for Matches<'a> {
    type Item = &'a Arc<Entry>;

    fn next(&mut self) -> Option<&'a Arc<Entry>> {
        if let [only] = &mut self.lists[..] {
            let (first, rest) = only.split_first()?;
            *only = rest;
            return Some(first);
        }
        loop {
            let heads = self.lists.iter().enumerate();
            let heads = heads.filter_map(|(i, list)| Some((i, list.first()?.order())));
            let (at, order) = heads.min_by_key(|(_, order)| *order)?;
            let (first, rest) = self.lists[at].split_first()?;
            self.lists[at] = rest;
            if self.last.replace(order) != Some(order) {
                return Some(first);
            }
        }
    }
}
