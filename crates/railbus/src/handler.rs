//! Handlers: what runs for an event.

use crate::{
    delivery::{Delivery, IntoOutcome, Lease, Outcome, of_event},
    error::{BoxError, Error, ErrorKind, Result},
    event::Event,
    payload::Shared,
};
use serde::de::DeserializeOwned;
use std::{fmt, future::Future, ops::Deref, pin::Pin};

/// What calling a handler gives: an outcome, or a future of one.
#[non_exhaustive]
pub enum Called<'a> {
    /// The handler is through.
    Now(Outcome),
    /// The handler goes on when polled.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>),
}

/// What runs for an event: a function, a closure, an async closure that captures.
///
/// Its arguments are extractors ([`Event`], [`Payload`], [`Delivery`], [`Lease`]), at most three,
/// or one `&Event`; it returns nothing, a `Result` with any error, or an [`Outcome`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is a closure or function whose arguments are `&Event` (sync only), or up to three of `Event`, `Payload<T>`, `Delivery` and `Lease`",
    note = "it returns (), Result<(), E> or Outcome; annotate the closure's arguments: `|event: &Event| ..`, `async |order: Payload<Order>| ..`"
)]
pub trait Handler<Marker>: Send + Sync + 'static {
    /// Whether it must be polled, so that `emit` can refuse it before anything ran.
    const ASYNC: bool;
    /// Whether one of its arguments is a [`Lease`].
    const MANUAL: bool;
    /// Runs the handler on a delivery.
    fn call<'a>(&'a self, delivery: &'a Delivery) -> Called<'a>;
}

/// What can be an argument of a handler.
pub trait FromDelivery: Sized + Send {
    /// Whether taking it means settling by hand.
    const MANUAL: bool = false;
    /// Takes it from the delivery.
    ///
    /// # Errors
    /// Returns why the delivery doesn't have it; the failure policy handles that.
    fn from_delivery(delivery: &Delivery) -> Result<Self, BoxError>;
}

impl FromDelivery for Event {
    fn from_delivery(delivery: &Delivery) -> Result<Self, BoxError> {
        Ok(delivery.event().clone())
    }
}

impl FromDelivery for Delivery {
    fn from_delivery(delivery: &Delivery) -> Result<Self, BoxError> {
        Ok(delivery.clone())
    }
}

impl FromDelivery for Lease {
    const MANUAL: bool = true;
    fn from_delivery(delivery: &Delivery) -> Result<Self, BoxError> {
        delivery.take_lease().ok_or_else(|| {
            let why = "there is nothing to settle by hand here";
            let error = Error::new(ErrorKind::Unsupported, "handler", why);
            of_event(error.hint("use .group(..).manual() on the subscription"), delivery.event())
        })
    }
}

/// The event's payload as a `T`: the value itself if it was given as one, else decoded.
///
/// It displays as its `T` does.
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
    fn from_delivery(delivery: &Delivery) -> Result<Self, BoxError> {
        let event = delivery.event();
        let payload = event.raw_payload().shared();
        Ok(Self(payload.map_err(|e| e.with("event", event.id()))?))
    }
}

/// Marks sync handlers.
#[derive(Debug)]
pub struct IsSync;
/// Marks async handlers.
#[derive(Debug)]
pub struct IsAsync;
/// Marks sync handlers that borrow the event.
#[derive(Debug)]
pub struct IsSyncRef;

impl<F, R> Handler<IsSyncRef> for F
where
    F: Fn(&Event) -> R + Send + Sync + 'static,
    R: IntoOutcome,
{
    const ASYNC: bool = false;
    const MANUAL: bool = false;

    fn call<'a>(&'a self, delivery: &'a Delivery) -> Called<'a> {
        Called::Now(self(delivery.event()).into_outcome())
    }
}

macro_rules! handlers {
    ($($arg:ident),*) => {
        impl<F, R, $($arg,)*> Handler<(IsSync, $($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: IntoOutcome,
            $($arg: FromDelivery,)*
        {
            const ASYNC: bool = false;
            const MANUAL: bool = false $(|| $arg::MANUAL)*;

            #[allow(unused_variables)]
            fn call<'a>(&'a self, delivery: &'a Delivery) -> Called<'a> {
                Called::Now(self($(match $arg::from_delivery(delivery) {
                    Ok(argument) => argument,
                    Err(e) => return Called::Now(Outcome::Failed(e)),
                }),*).into_outcome())
            }
        }

        impl<F, Fut, $($arg,)*> Handler<(IsAsync, $($arg,)*)> for F
        where
            F: FnOnce($($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output: IntoOutcome> + Send + 'static,
            $($arg: FromDelivery,)*
        {
            const ASYNC: bool = true;
            const MANUAL: bool = false $(|| $arg::MANUAL)*;

            #[allow(unused_variables)]
            fn call<'a>(&'a self, delivery: &'a Delivery) -> Called<'a> {
                let running = (self.clone())($(match $arg::from_delivery(delivery) {
                    Ok(argument) => argument,
                    Err(e) => return Called::Now(Outcome::Failed(e)),
                }),*);
                Called::Later(Box::pin(async move { running.await.into_outcome() }))
            }
        }
    };
}

handlers!();
handlers!(A);
handlers!(A, B);
handlers!(A, B, C);

/// A handler without its type, as a subscription keeps it.
pub(crate) trait AnyHandler: Send + Sync {
    fn call<'a>(&'a self, delivery: &'a Delivery) -> Called<'a>;
    fn is_async(&self) -> bool;
    fn is_manual(&self) -> bool;
}

struct Erased<H, M>(H, std::marker::PhantomData<fn() -> M>);

impl<M: 'static, H: Handler<M>> AnyHandler for Erased<H, M> {
    fn call<'a>(&'a self, delivery: &'a Delivery) -> Called<'a> {
        self.0.call(delivery)
    }

    fn is_async(&self) -> bool {
        H::ASYNC
    }

    fn is_manual(&self) -> bool {
        H::MANUAL
    }
}

pub(crate) fn erase<M: 'static, H: Handler<M>>(handler: H) -> Box<dyn AnyHandler> {
    Box::new(Erased(handler, std::marker::PhantomData))
}
