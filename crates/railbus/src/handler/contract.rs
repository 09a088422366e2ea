//! The contract of a handler.

use super::call::{Call, World};
use crate::{delivery::Outcome, error::Result};
use std::{future::Future, pin::Pin};

/// What calling a handler gives: an outcome, or a future of one.
#[non_exhaustive]
pub enum Called<'a> {
    /// The handler is through.
    Now(Outcome),
    /// The handler goes on when polled.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>),
}

/// What runs for an event: a function, a closure, an async closure that captures, or a struct that
/// is a [`SyncHandler`](super::SyncHandler) or [`AsyncHandler`](super::AsyncHandler).
///
/// A function's arguments are extractors ([`Event`](struct@crate::Event), [`Payload`](super::Payload),
/// [`State`](crate::State), [`Context`](crate::Context), [`Bus`](crate::Bus),
/// [`Delivery`](crate::delivery::Delivery), [`Lease`](crate::delivery::Lease),
/// [`Batch`](super::Batch)), at most four, or one `&Event`; it returns nothing, a `Result` with any error, or an
/// [`Outcome`](crate::delivery::Outcome).
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Payload, State, handler::{Call, Called, Handler}};
///
/// fn count(event: &Event) {
///     println!("{}", event.event_type());
/// }
///
/// /// A handler that is none of the usual: it runs another one twice.
/// struct Twice<H>(H);
///
/// impl<M, H: Handler<M>> Handler<(Twice<H>, M)> for Twice<H> {
///     const ASYNC: bool = H::ASYNC;
///
///     fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
///         match self.0.call(call) {
///             Called::Now(_) => self.0.call(call),
///             later => later,
///         }
///     }
/// }
///
/// let bus = Bus::new().state(String::from("shop"));
/// bus.on("tick").run(count).now()?;
/// bus.on("tick").run(|n: Payload<u32>, name: State<String>| println!("{name:?} {n}")).now()?;
/// bus.on("tick").run(Twice(count)).now()?;
/// assert_eq!(bus.emit(Event::new("tick").payload(1_u32))?.matched, 3);
/// # Ok::<(), railbus::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "its arguments, what it returns or what it captures don't fit",
    note = "a sync handler takes one `&Event`, or up to four of `Event`, `Payload<T>`, `State<T>`, `Context`, `Bus`, `Delivery` and `Lease`: `|event: &Event| ..`",
    note = "an async handler takes the same by value, `Event` instead of `&Event`: `async |order: Payload<Order>| ..`; what it captures is Clone",
    note = "it returns (), Result<(), E> with any error, Outcome, or Reply; a `T` in its arguments is Send, Sync and 'static, that of Payload<T> implements Deserialize",
    note = "a struct is a handler if it implements SyncHandler, AsyncHandler or Subscriber"
)]
pub trait Handler<Marker>: Send + Sync + 'static {
    /// Whether it must be polled, so that `emit` can refuse it before anything ran.
    const ASYNC: bool;
    /// Whether one of its arguments is a [`Lease`](crate::delivery::Lease).
    const MANUAL: bool = false;
    /// Whether one of its arguments is a [`Batch`](super::Batch).
    const BATCH: bool = false;
    /// Whether it answers who asked, by a [`Reply`](crate::Reply).
    const REPLIES: bool = false;

    /// Runs the handler on a delivery.
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a>;

    /// Checks, when the subscription opens, that what its arguments are taken from is there.
    ///
    /// # Errors
    /// Returns a config error that says what is missing.
    #[doc(hidden)]
    fn check(world: &Ready<'_>) -> Result<()> {
        let _ = world;
        Ok(())
    }
}

/// What a handler's arguments are checked against.
#[doc(hidden)]
pub struct Ready<'a>(pub(super) &'a World);
