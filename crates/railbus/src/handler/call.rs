//! What a handler's arguments are taken from.

use crate::{
    delivery::{Delivery, Items, Lease, Marks},
    error::Result,
    event::Event,
    state::{State, States},
};
use std::{
    any::Any,
    fmt,
    sync::{Arc, Weak},
};

/// One call of a handler: the event, which try it is, and what the bus was given for handlers.
///
/// Arguments are taken from it by [`FromDelivery`](super::FromDelivery).
///
/// # Examples
/// ```
/// use railbus::{BoxError, Bus, Event, handler::{Call, FromDelivery}};
///
/// /// Says which delivery it is.
/// struct Told(String);
///
/// impl FromDelivery for Told {
///     fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
///         let group = call.group().unwrap_or("everyone");
///         let delivery = call.delivery();
///         assert_eq!(delivery.event(), call.event());
///         Ok(Self(format!("{}, try {}, to {group}", call.event().event_type(), call.attempt())))
///     }
/// }
///
/// let bus = Bus::new();
/// bus.on("tick").run(|told: Told| assert_eq!(told.0, "tick, try 1, to everyone")).now()?;
/// assert!(bus.emit(Event::new("tick"))?.failures.is_empty());
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Call<'a> {
    event: &'a Event,
    attempt: u32,
    group: Option<&'a Arc<str>>,
    marks: Option<&'a Marks>,
    items: Option<&'a Items>,
    world: &'a World,
}

impl<'a> Call<'a> {
    /// The first try of a broadcast, or a further one.
    pub(crate) fn broadcast(event: &'a Event, attempt: u32, world: &'a World) -> Self {
        Self { event, attempt, group: None, marks: None, items: None, world }
    }

    pub(crate) fn of(delivery: &'a Delivery, world: &'a World) -> Self {
        Self {
            event: &delivery.event,
            attempt: delivery.attempt,
            group: delivery.group.as_ref(),
            marks: Some(&delivery.marks),
            items: None,
            world,
        }
    }

    /// Of several deliveries at once, for which `event` stands.
    pub(crate) fn of_batch(event: &'a Event, items: &'a Items, world: &'a World) -> Self {
        let first = items.delivery(0);
        Self {
            event,
            attempt: first.map_or(1, Delivery::attempt),
            group: first.and_then(|delivery| delivery.group.as_ref()),
            marks: None,
            items: Some(items),
            world,
        }
    }

    /// Returns the event.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event
    }

    /// Returns which try this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the group the event was delivered to; none for a broadcast.
    #[must_use]
    pub fn group(&self) -> Option<&'a str> {
        self.group.map(|group| &**group)
    }

    /// Returns the delivery, to keep.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        Delivery {
            event: self.event.clone(),
            attempt: self.attempt,
            group: self.group.cloned(),
            marks: self.marks.cloned().unwrap_or_default(),
        }
    }

    pub(crate) fn take_lease(&self) -> Option<Lease> {
        self.marks.and_then(|marks| marks.take_lease())
    }

    pub(crate) fn items(&self) -> Option<&'a Items> {
        self.items
    }

    pub(crate) fn world(&self) -> &'a World {
        self.world
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({:?}, try {})", self.event, self.attempt)
    }
}

/// What a bus was given for its handlers, as it was when their subscription opened.
#[derive(Clone, Default)]
pub(crate) struct World {
    states: States,
    // Weak: a subscription must not keep alive the bus that owns it.
    bus: Option<Weak<dyn Any + Send + Sync>>,
}

impl World {
    pub(crate) fn set_bus(&mut self, bus: Weak<dyn Any + Send + Sync>) {
        self.bus = Some(bus);
    }

    pub(crate) fn bus(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.bus.as_ref()?.upgrade()
    }

    pub(crate) fn provide<T: Send + Sync + 'static>(&mut self, state: T) {
        self.states.provide(state);
    }

    pub(crate) fn state<T: Send + Sync + 'static>(&self) -> Result<State<T>> {
        self.states.get()
    }
}
