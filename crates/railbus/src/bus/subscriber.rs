//! Subscribers: structs that know what they want, and handle it.

use super::{
    consumer::Consumer,
    open::Bus,
    subscribe::{On, Opening},
};
use crate::{
    delivery::{Delivery, IntoOutcome, Outcome},
    error::BoxError,
    event::Event,
    handler::{Call, Called, Handler},
    predicate::Predicate,
};
use async_trait::async_trait;
use std::sync::Arc;

/// A struct that says which events it wants, mostly several types, and handles them.
///
/// It is a handler as well: `bus.on(["user.created", "user.deleted"]).run(users)` asks it for nothing
/// but [`Subscriber::can_handle`] and [`Subscriber::handle`].
///
/// # Examples
/// ```
/// use railbus::{
///     BoxError, Bus, Event, Predicate, Retry, Subscriber, bus::On, delivery::Delivery,
///     middlewares::Logging,
/// };
///
/// struct UserEvents;
///
/// #[async_trait::async_trait]
/// impl Subscriber for UserEvents {
///     fn interest(&self) -> Predicate {
///         ["user.created", "user.updated", "user.deleted"].into()
///     }
///
///     fn terms(&self, on: On) -> On {
///         on.group("user-service").limit(5).retry(Retry::attempts(3)).layer(Logging::new())
///     }
///
///     async fn handle(&self, delivery: &Delivery) -> Result<(), BoxError> {
///         match delivery.event_type() {
///             "user.created" => println!("User created: {}", delivery.payload::<String>()?),
///             other => println!("{other}"),
///         }
///         Ok(())
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// bus.subscribe(UserEvents).await?;
/// bus.publish(Event::new("user.created").payload("Ada")).await?;
/// bus.idle().await?;
/// assert_eq!(bus.counters().succeeded.get(), 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Subscriber: Send + Sync + 'static {
    /// Returns which events it wants; asked once, when it subscribes.
    fn interest(&self) -> Predicate;

    /// Says on which terms: a group, a name, its layers (default: a broadcast, as [`Bus::on`] gives it).
    fn terms(&self, on: On) -> On {
        on
    }

    /// Tells whether it takes this event (default: every one); if not, it is skipped.
    fn can_handle(&self, event: &Event) -> bool {
        let _ = event;
        true
    }

    /// Handles an event. May be called from many tasks at once.
    ///
    /// # Errors
    /// Any error is the subscription's failure; its policy decides what follows.
    async fn handle(&self, delivery: &Delivery) -> Result<(), BoxError>;
}

#[async_trait]
impl<S: Subscriber> Subscriber for Arc<S> {
    fn interest(&self) -> Predicate {
        S::interest(self)
    }

    fn terms(&self, on: On) -> On {
        S::terms(self, on)
    }

    fn can_handle(&self, event: &Event) -> bool {
        S::can_handle(self, event)
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), BoxError> {
        S::handle(self, delivery).await
    }
}

/// Marks structs that are subscribers.
#[derive(Debug)]
pub struct IsSubscriber;

impl<S: Subscriber> Handler<IsSubscriber> for S {
    const ASYNC: bool = true;

    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        if !self.can_handle(call.event()) {
            return Called::Now(Outcome::Skip);
        }
        Called::Later(Box::pin(async move { self.handle(&call.delivery()).await.into_outcome() }))
    }
}

impl Bus {
    /// Subscribes a struct to the events that it wants, on its terms.
    ///
    /// # Errors
    /// Awaiting it returns the errors of [`Bus::on`].
    ///
    /// # Examples
    /// See [`Subscriber`].
    pub fn subscribe(&self, subscriber: impl Subscriber) -> Opening {
        open(self.on(subscriber.interest()), subscriber)
    }
}

impl Consumer {
    /// Subscribes a struct to the events of the group that it wants, on its terms; a group that they
    /// name takes the place of the consumer's.
    ///
    /// # Errors
    /// Awaiting it returns the errors of [`Consumer::on`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{BoxError, Consumer, Predicate, Subscriber, delivery::Delivery};
    ///
    /// struct Orders;
    ///
    /// #[async_trait::async_trait]
    /// impl Subscriber for Orders {
    ///     fn interest(&self) -> Predicate {
    ///         ["order.placed", "order.cancelled"].into()
    ///     }
    ///
    ///     async fn handle(&self, order: &Delivery) -> Result<(), BoxError> {
    ///         println!("{}", order.event_type());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let consumer = Consumer::open("memory:?group=orders").await?;
    /// consumer.subscribe(Orders).await?;
    /// consumer.start().await?;
    /// consumer.stop().await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub fn subscribe(&self, subscriber: impl Subscriber) -> Opening {
        open(self.on(subscriber.interest()), subscriber)
    }
}

fn open(on: On, subscriber: impl Subscriber) -> Opening {
    subscriber.terms(on).run(subscriber)
}
