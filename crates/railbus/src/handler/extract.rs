//! What can be an argument of a handler.

use super::{call::Call, contract::Ready};
use crate::{
    context::{self, Context},
    delivery::{Delivery, Lease, of_event},
    error::{BoxError, Error, ErrorKind, Result},
    event::Event,
    payload::Shared,
    state::State,
};
use serde::de::DeserializeOwned;
use std::{fmt, ops::Deref};

/// What can be an argument of a handler.
///
/// # Examples
/// ```
/// use railbus::{BoxError, Bus, Event, handler::{Call, FromDelivery}};
///
/// struct Tenant(String);
///
/// impl FromDelivery for Tenant {
///     fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
///         let tenant = call.event().metadata().get("tenant").cloned();
///         Ok(Self(tenant.ok_or("the event names no tenant")?))
///     }
/// }
///
/// let bus = Bus::new();
/// bus.on("order.placed").run(|tenant: Tenant| assert_eq!(tenant.0, "north")).now()?;
/// bus.emit(Event::new("order.placed").metadata("tenant", "north"))?;
/// # Ok::<(), railbus::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be an argument of a handler",
    label = "not taken from a delivery",
    note = "use `Event`, `Payload<T>` (T: Deserialize), `State<T>`, `Context`, `Bus`, `Delivery` or `Lease`",
    note = "or implement FromDelivery for it"
)]
pub trait FromDelivery: Sized + Send {
    /// Whether taking it means settling by hand.
    const MANUAL: bool = false;
    /// Whether it is many events at once.
    const BATCH: bool = false;
    /// Whether it is of one event, so that a handler of batches can't take it.
    #[doc(hidden)]
    const SINGLE: bool = true;

    /// Takes it from the delivery.
    ///
    /// # Errors
    /// Returns why the delivery doesn't have it; the failure policy handles that.
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError>;

    /// Checks, when the subscription opens, that it will be there.
    ///
    /// # Errors
    /// Returns a config error that says what is missing.
    #[doc(hidden)]
    fn check(world: &Ready<'_>) -> Result<()> {
        let _ = world;
        Ok(())
    }
}

impl FromDelivery for Event {
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        Ok(call.event().clone())
    }
}

impl FromDelivery for Delivery {
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        Ok(call.delivery())
    }
}

impl FromDelivery for Context {
    const SINGLE: bool = false;

    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        // Handlers are called within the context of their delivery.
        Ok(context::current().unwrap_or_else(|| context::inside(call.event())))
    }
}

impl<T: Send + Sync + 'static> FromDelivery for State<T> {
    const SINGLE: bool = false;

    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        Ok(call.world().state()?)
    }

    fn check(world: &Ready<'_>) -> Result<()> {
        world.0.state::<T>().map(drop)
    }
}

impl FromDelivery for Lease {
    const MANUAL: bool = true;
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        call.take_lease().ok_or_else(|| {
            let why = "there is nothing to settle by hand here";
            let error = Error::new(ErrorKind::Unsupported, "handler", why);
            of_event(error.hint("use .group(..).manual() on the subscription"), call.event())
        })
    }
}

/// The event's payload as a `T`: the value itself if it was given as one, else decoded.
///
/// It displays as its `T` does.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Payload};
///
/// let bus = Bus::new();
/// bus.on("number").run(|n: Payload<u32>| assert_eq!((*n + 1, &*n.to_string()), (8, "7"))).now()?;
/// bus.on("number").run(|n: Payload<u32>| assert_eq!(n.into_inner(), 7)).now()?;
/// let report = bus.emit(Event::new("number").payload(7_u32))?;
/// assert!(report.failures.is_empty());
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Debug)]
pub struct Payload<T>(Shared<T>);

impl<T> Payload<T> {
    /// Returns the value, cloned from what the event keeps.
    #[must_use]
    pub fn into_inner(self) -> T
    where
        T: Clone,
    {
        T::clone(&self.0)
    }
}

impl<T> Clone for Payload<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Payload<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Display> fmt::Display for Payload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> FromDelivery for Payload<T> {
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        let event = call.event();
        let payload = event.raw_payload().shared();
        Ok(Self(payload.map_err(|e| e.with("event", event.id()))?))
    }
}
