//! A subscription as the engine sees it.

use crate::{
    clock::Timestamp, delivery::FailurePolicy, event::Event, handler::AnyHandler, id::new_id,
    predicate::Predicate,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Returns a group's subscriptions that want an event, in the order they run; none at all if this
/// member has nobody any more for events of its type and topic.
pub(crate) type Matching = Arc<dyn Fn(&Event) -> Option<Vec<Arc<Entry>>> + Send + Sync>;

/// Returns the name and policy for bytes that are no event, and so are nobody's in particular.
pub(crate) type Fallback = Arc<dyn Fn() -> (String, FailurePolicy) + Send + Sync>;

/// What runs for which events, and what follows if it fails.
pub(crate) struct Entry {
    pub(crate) id: String,
    /// Keys its outcomes and its dead letters within the group.
    pub(crate) name: String,
    pub(crate) predicate: Predicate,
    /// Whether the predicate runs code of the user's, which may panic.
    pub(crate) asks_closures: bool,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) priority: i32,
    pub(crate) policy: FailurePolicy,
    pub(crate) handler: Box<dyn AnyHandler>,
    pub(crate) manual: bool,
    pub(crate) created_at: Timestamp,
    cancelled: AtomicBool,
}

impl Entry {
    pub(crate) fn new(
        name: String,
        predicate: Predicate,
        group: Option<Arc<str>>,
        policy: FailurePolicy,
        handler: Box<dyn AnyHandler>,
    ) -> Self {
        Self {
            id: new_id(),
            name,
            asks_closures: predicate.asks_closures(),
            predicate,
            group,
            priority: 1,
            policy,
            manual: handler.is_manual(),
            handler,
            created_at: Timestamp::now(),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Tells whether the subscription wants the event and was not cancelled; also if the predicate
    /// panics, which is told as the failure of the subscription when it is to run.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let wanted = || self.predicate.matches(event);
        let wanted = match self.asks_closures {
            true => catch_unwind(AssertUnwindSafe(wanted)).unwrap_or(true),
            false => wanted(),
        };
        wanted && !self.is_cancelled()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// Cancels it; tells whether it was not cancelled before.
    pub(crate) fn cancel(&self) -> bool {
        !self.cancelled.swap(true, Relaxed)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.name, self.predicate)
    }
}
