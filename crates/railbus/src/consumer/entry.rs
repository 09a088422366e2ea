//! A subscription as the engine sees it.

use crate::{
    clock::Timestamp,
    delivery::FailurePolicy,
    event::Event,
    handler::{AnyHandler, World},
    predicate::{Filter, Predicate},
    sync::AtomicBool,
    task::let_go,
};
use smallvec::SmallVec;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
};

/// Returns a group's subscriptions that want an event, in the order they run; none at all if this
/// member has nobody any more for events of its type and topic.
pub(crate) type Matching = Arc<dyn Fn(&Event) -> Option<SmallVec<[Arc<Entry>; 2]>> + Send + Sync>;

/// Returns the name and policy for bytes that are no event, and so are nobody's in particular.
pub(crate) type Fallback = Arc<dyn Fn() -> (String, FailurePolicy) + Send + Sync>;

/// What runs for which events, and what follows if it fails.
pub(crate) struct Entry {
    /// Counts the subscriptions of its bus, from 1.
    pub(crate) number: u64,
    /// Keys its outcomes and its dead letters within the group.
    pub(crate) name: Arc<str>,
    pub(crate) predicate: Predicate,
    // What a backend is asked for, once somebody wants to know.
    asked_for: OnceLock<Filter>,
    /// Whether it comes after those of its priority that pin a type or a topic.
    catch_all: bool,
    /// Whether finding it by its type or topic proves that it wants the event.
    pub(crate) plain: bool,
    /// Whether the predicate runs code of the user's, which may panic.
    pub(crate) asks_closures: bool,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) priority: i32,
    pub(crate) policy: FailurePolicy,
    pub(crate) handler: Box<dyn AnyHandler>,
    pub(crate) world: World,
    pub(crate) manual: bool,
    /// How many events its handler takes at once; 0 if it takes one after another.
    pub(crate) batch: usize,
    pub(crate) created_at: Timestamp,
    cancelled: AtomicBool,
}

/// When a subscription runs among others: priority, then typed before catch-all, then age.
pub(crate) type Order = (i32, bool, u64);

impl Entry {
    pub(crate) fn new(
        name: Arc<str>,
        predicate: Predicate,
        group: Option<Arc<str>>,
        policy: FailurePolicy,
        handler: Box<dyn AnyHandler>,
    ) -> Self {
        Self {
            number: 0,
            name,
            catch_all: !predicate.is_typed(),
            plain: predicate.is_plain(),
            asks_closures: predicate.asks_closures(),
            predicate,
            asked_for: OnceLock::new(),
            group,
            priority: 1,
            policy,
            manual: handler.is_manual(),
            batch: 0,
            handler,
            world: World::default(),
            created_at: Timestamp::now(),
            cancelled: AtomicBool::new(false),
        }
    }

    pub(crate) fn order(&self) -> Order {
        (self.priority, self.catch_all, self.number)
    }

    /// Tells whether the subscription wants the event and was not cancelled; also if the predicate
    /// panics, which is told as the failure of the subscription when it is to run.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        let wanted = || self.predicate.matches(event);
        let wanted = match self.asks_closures {
            true => catch_unwind(AssertUnwindSafe(wanted)).unwrap_or_else(|panic| {
                let_go(panic);
                true
            }),
            false => wanted(),
        };
        wanted && !self.is_cancelled()
    }

    /// Tells whether a backend brings it events of this type on this topic, wanted or not: it is
    /// asked for more than that where a predicate says much.
    pub(crate) fn is_asked_for(&self, event_type: &str, topic: &str) -> bool {
        let filter = self.asked_for.get_or_init(|| self.predicate.interest().compile());
        filter.matches(event_type, topic)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// Cancels it; tells whether it was not cancelled before.
    pub(crate) fn cancel(&self) -> bool {
        !self.cancelled.swap(true, Relaxed)
    }

    /// Tells whether running it may need a runtime: to be polled, or to be tried again later.
    pub(crate) fn needs_runtime(&self) -> bool {
        self.handler.is_async() || self.policy.retry.max_attempts() > 1
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.name, self.predicate)
    }
}
