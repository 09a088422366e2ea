//! Middleware: what runs around the handlers of a subscription.

use crate::{
    delivery::{Delivery, Outcome},
    error::Result,
    handler::{AnyHandler, Call, Called, World},
};
use async_trait::async_trait;
use std::{fmt, sync::Arc};

/// What runs around a handler: it sees the delivery before and the outcome after, and decides
/// whether the handler runs at all.
///
/// What a middleware returns is the subscription's outcome, so its failure policy decides what
/// follows; retries are the policy's, never a middleware's. A subscription with middleware is
/// async, whatever its handler is.
///
/// # Examples
/// ```
/// use railbus::{
///     Bus, Event,
///     delivery::{Delivery, Outcome},
///     middleware::{Middleware, Next},
/// };
///
/// /// Leaves out what is marked as a dry run.
/// struct NoDryRuns;
///
/// #[async_trait::async_trait]
/// impl Middleware for NoDryRuns {
///     async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
///         match delivery.event().get("dry_run") {
///             Some(true) => Outcome::Skip,
///             _ => next.run(delivery).await,
///         }
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// bus.on("order.placed").layer(NoDryRuns).run(|_: &Event| {}).await?;
/// let order = Event::new("order.placed").payload(railbus::json!({"dry_run": true}));
/// assert_eq!(bus.publish(order).await?.matched, 0);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Middleware: Send + Sync + 'static {
    /// Handles a delivery, by [`Next::run`] or without.
    ///
    /// A panic is contained as one of the handler is. If it is dropped, the handler is dropped
    /// with it.
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome;
}

/// What comes after a middleware: the next one, or the handler.
pub struct Next<'a> {
    layers: &'a [Arc<dyn Middleware>],
    handler: &'a dyn AnyHandler,
    world: &'a World,
}

impl Next<'_> {
    /// Runs what comes next.
    ///
    /// # Cancel safety
    /// That of the handler.
    pub async fn run(self, delivery: &Delivery) -> Outcome {
        match self.layers.split_first() {
            Some((layer, layers)) => layer.handle(delivery, Self { layers, ..self }).await,
            None => match self.handler.call(Call::of(delivery, self.world)) {
                Called::Now(outcome) => outcome,
                Called::Later(running) => running.await,
            },
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} more layers)", self.layers.len())
    }
}

/// A handler with what runs around it, first outermost.
pub(crate) struct Layered {
    layers: Vec<Arc<dyn Middleware>>,
    handler: Box<dyn AnyHandler>,
}

impl Layered {
    /// Puts the layers around the handler; without layers it stays as it is.
    pub(crate) fn around(
        layers: Vec<Arc<dyn Middleware>>,
        handler: Box<dyn AnyHandler>,
    ) -> Box<dyn AnyHandler> {
        match layers.is_empty() {
            true => handler,
            false => Box::new(Self { layers, handler }),
        }
    }
}

impl AnyHandler for Layered {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        let delivery = call.delivery();
        let (layers, handler, world) = (&self.layers[..], &*self.handler, call.world());
        let next = Next { layers, handler, world };
        Called::Later(Box::pin(async move { next.run(&delivery).await }))
    }

    fn is_async(&self) -> bool {
        true
    }

    fn is_manual(&self) -> bool {
        self.handler.is_manual()
    }

    fn is_batch(&self) -> bool {
        self.handler.is_batch()
    }

    fn replies(&self) -> bool {
        self.handler.replies()
    }

    fn check(&self, world: &World) -> Result<()> {
        self.handler.check(world)
    }
}
