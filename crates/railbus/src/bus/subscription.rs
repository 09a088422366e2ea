//! A subscription in the hands of the user.

use super::open::Bus;
use crate::{clock::Timestamp, consumer::Entry, predicate::Predicate};
use std::{fmt, sync::Arc};

/// A subscription that is open; dropping this does not cancel it.
#[derive(Clone)]
pub struct Subscription {
    pub(super) entry: Arc<Entry>,
    pub(super) bus: Bus,
}

impl Subscription {
    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.entry.id
    }

    /// Returns its name: the one given, else its id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Returns which events it wants.
    #[must_use]
    pub fn predicate(&self) -> &Predicate {
        &self.entry.predicate
    }

    /// Returns when it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.entry.created_at
    }

    /// Cancels it: from here on it is not called, not even by a dispatch under way. Cancelling
    /// again does nothing.
    pub fn cancel(&self) {
        self.bus.unsubscribe(self.id());
    }
}

impl Bus {
    /// Cancels the subscription with that id; tells whether there was one.
    pub fn unsubscribe(&self, id: &str) -> bool {
        let Some(entry) = self.0.table.remove(id) else { return false };
        let first = entry.cancel();
        if let (Some(group), Some(runtime)) = (entry.group.clone(), self.0.runtime.get()) {
            let bus = self.clone();
            runtime.spawn(async move { bus.narrow(&group).await });
        }
        first
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({}, {:?})", self.id(), self.entry)
    }
}
