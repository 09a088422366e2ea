//! An event as handed to a handler.

use super::lease::Lease;
use crate::event::Event;
use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// An event as handed to a handler. Only the engine makes one.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, delivery::Delivery};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let tell = async |delivery: Delivery| {
///     if delivery.attempt() > 1 {
///         delivery.note_retry();
///     }
///     assert_eq!((delivery.event().event_type(), delivery.group()), ("tick", None));
/// };
/// bus.on("tick").run(tell).await?;
/// assert!(bus.publish(Event::new("tick")).await?.failures.is_empty());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(crate) event: Event,
    pub(crate) attempt: u32,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) marks: Marks,
}

/// What a handler may leave behind on its delivery: the same for all copies of it. Made when it is
/// first asked for, which most handlers never do.
#[derive(Debug, Default)]
pub(crate) struct Marks(OnceLock<Arc<Made>>);

#[derive(Debug, Default)]
struct Made {
    // What settles it by hand; the handler that asks for the lease takes it.
    lease: Mutex<Option<Lease>>,
    // Whether a part of the work was tried more than once.
    retried: AtomicBool,
}

impl Clone for Marks {
    fn clone(&self) -> Self {
        Self(Arc::clone(self.made()).into())
    }
}

impl Marks {
    fn made(&self) -> &Arc<Made> {
        self.0.get_or_init(Arc::default)
    }

    pub(crate) fn leave_lease(&self, lease: Lease) {
        *self.made().lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }

    pub(crate) fn take_lease(&self) -> Option<Lease> {
        self.0.get()?.lease.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn retried(&self) -> bool {
        self.0.get().is_some_and(|made| made.retried.load(Relaxed))
    }
}

impl std::ops::Deref for Delivery {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl Delivery {
    /// Returns the event; a delivery derefs to it.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns which try this is, from 1: deliveries so far and tries in place together.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Notes that a part of the work was tried more than once, so that the event counts as retried.
    pub fn note_retry(&self) {
        self.marks.made().retried.store(true, Relaxed);
    }

    pub(crate) fn take_lease(&self) -> Option<Lease> {
        self.marks.take_lease()
    }

    /// Returns the group the event was delivered to; none for a broadcast.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}
