//! Structs as handlers: with state of their own, and a say in which events they take.

use super::{
    call::Call,
    contract::{Called, Handler},
};
use crate::{
    delivery::{IntoOutcome, Outcome},
    error::BoxError,
    event::Event,
};
use async_trait::async_trait;
use std::sync::Arc;

/// A struct that handles events without awaiting.
///
/// # Examples
/// ```
/// use railbus::{BoxError, Bus, Event, SyncHandler, any};
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
///
/// #[derive(Default)]
/// struct Orders(AtomicU32);
///
/// impl SyncHandler for Orders {
///     fn can_handle(&self, event: &Event) -> bool {
///         event.event_type().starts_with("order.")
///     }
///
///     fn handle(&self, _event: &Event) -> Result<(), BoxError> {
///         self.0.fetch_add(1, Ordering::Relaxed);
///         Ok(())
///     }
/// }
///
/// let (bus, orders) = (Bus::new(), Arc::new(Orders::default()));
/// bus.on(any()).run(Arc::clone(&orders)).now()?;
/// bus.emit(Event::new("order.placed"))?;
/// bus.emit(Event::new("user.created"))?;
/// assert_eq!(orders.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), railbus::Error>(())
/// ```
pub trait SyncHandler: Send + Sync + 'static {
    /// Tells whether it takes this event (default: every one); if not, it is skipped.
    fn can_handle(&self, event: &Event) -> bool {
        let _ = event;
        true
    }

    /// Handles the event. May be called from many threads at once.
    ///
    /// # Errors
    /// Any error is the subscription's failure; its policy decides what follows.
    fn handle(&self, event: &Event) -> Result<(), BoxError>;
}

/// A struct that handles events and awaits.
///
/// # Examples
/// ```
/// use railbus::{AsyncHandler, BoxError, Bus, Event};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// struct Mailer;
///
/// #[async_trait::async_trait]
/// impl AsyncHandler for Mailer {
///     fn can_handle(&self, event: &Event) -> bool {
///         event.source() != "test"
///     }
///
///     async fn handle(&self, event: &Event) -> Result<(), BoxError> {
///         println!("to {}", event.get::<&str>("address").ok_or("nobody to write to")?);
///         Ok(())
///     }
/// }
///
/// let bus = Bus::new();
/// bus.on("welcome").run(Mailer).await?;
/// assert_eq!(bus.publish(Event::new("welcome").source("test")).await?.matched, 0);
/// assert_eq!(bus.publish(Event::new("welcome")).await?.failures[0].error, "nobody to write to");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait AsyncHandler: Send + Sync + 'static {
    /// Tells whether it takes this event (default: every one); if not, it is skipped.
    fn can_handle(&self, event: &Event) -> bool {
        let _ = event;
        true
    }

    /// Handles the event. May be called from many tasks at once.
    ///
    /// # Errors
    /// Any error is the subscription's failure; its policy decides what follows.
    async fn handle(&self, event: &Event) -> Result<(), BoxError>;
}

impl<H: SyncHandler> SyncHandler for Arc<H> {
    fn can_handle(&self, event: &Event) -> bool {
        H::can_handle(self, event)
    }

    fn handle(&self, event: &Event) -> Result<(), BoxError> {
        H::handle(self, event)
    }
}

#[async_trait]
impl<H: AsyncHandler> AsyncHandler for Arc<H> {
    fn can_handle(&self, event: &Event) -> bool {
        H::can_handle(self, event)
    }

    async fn handle(&self, event: &Event) -> Result<(), BoxError> {
        H::handle(self, event).await
    }
}

/// Marks structs that are sync handlers.
#[derive(Debug)]
pub struct IsSyncObject;
/// Marks structs that are async handlers.
#[derive(Debug)]
pub struct IsAsyncObject;

impl<H: SyncHandler> Handler<IsSyncObject> for H {
    const ASYNC: bool = false;

    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        let event = call.event();
        Called::Now(match self.can_handle(event) {
            true => self.handle(event).into_outcome(),
            false => Outcome::Skip,
        })
    }
}

impl<H: AsyncHandler> Handler<IsAsyncObject> for H {
    const ASYNC: bool = true;

    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        let event = call.event();
        if !self.can_handle(event) {
            return Called::Now(Outcome::Skip);
        }
        Called::Later(Box::pin(async move { self.handle(event).await.into_outcome() }))
    }
}
