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

    #[inline]
    fn next(&mut self) -> Option<&'a Arc<Entry>> {
        if self.lists.more.is_empty() {
            let (first, rest) = self.lists.first.split_first()?;
            self.lists.first = rest;
            return Some(first);
        }
        self.merge()
    }
}

impl<'a> Matches<'a> {
    fn merge(&mut self) -> Option<&'a Arc<Entry>> {
        loop {
            let Lists { first, more } = &mut self.lists;
            let lists = std::iter::once(first).chain(more.iter_mut());
            let heads = lists.filter_map(|list| Some((list.first()?.order(), list)));
            let (order, list) = heads.min_by_key(|(order, _)| *order)?;
            let (first, rest) = list.split_first()?;
            *list = rest;
            if self.last.replace(order) != Some(order) {
                return Some(first);
            }
        }
    }
}
