//! Middleware: what runs around the handlers of a subscription.

use crate::{
    commons::Commons,
    credit::Credit,
    delivery::{Delivery, Outcome, contained},
    error::{Error, ErrorKind, Result},
    handler::{AnyHandler, Call, Called, World},
    retry::Retry,
};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

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

    /// Takes part in opening a subscription: asks for what it needs, and refuses what can't be
    /// (default: nothing). Called once for each subscription that it is around.
    ///
    /// # Errors
    /// Any error ends the opening.
    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        let _ = setup;
        Ok(())
    }
}

/// A subscription that is being opened, as its middleware sees it.
///
/// # Examples
/// ```
/// use railbus::{
///     Bus, Event, Result, Retry,
///     credit::Credit,
///     delivery::{Delivery, Outcome},
///     middleware::{Middleware, Next, Setup},
/// };
/// use std::sync::Arc;
///
/// /// Lets one event through at a time.
/// struct One;
///
/// #[async_trait::async_trait]
/// impl Credit for One {
///     async fn take(&self, _most: usize) -> usize {
///         1
///     }
/// }
///
/// /// Tries twice, in groups only, and lets so many through.
/// struct Twice(Arc<dyn Credit>);
///
/// #[async_trait::async_trait]
/// impl Middleware for Twice {
///     async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
///         next.run(delivery).await
///     }
///
///     fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
///         let is_plain = !(setup.is_manual() || setup.is_decided_later());
///         if setup.group().is_none() || !is_plain {
///             return Ok(());
///         }
///         println!("{:?}, leased for {:?}", setup.name(), setup.lease());
///         println!("fleets have something in common: {}", setup.commons().is_ok());
///         setup.credit(self.0.clone());
///         setup.retry(Retry::attempts(2))
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let subscription = bus.on("tick").group("g").layer(Twice(Arc::new(One)));
/// let subscription = subscription.run(async |_: Event| {}).await?;
/// assert!(subscription.explain().to_string().contains("after 500ms try 2, then DeadLetter"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Setup<'a> {
    pub(crate) group: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) lease: Duration,
    pub(crate) manual: bool,
    pub(crate) batch: bool,
    pub(crate) commons: &'a (dyn Fn() -> Result<Arc<dyn Commons>> + Sync),
    pub(crate) retry: Option<Retry>,
    pub(crate) credits: Vec<Arc<dyn Credit>>,
}

impl Setup<'_> {
    /// Returns its group; none for a broadcast.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group
    }

    /// Returns the name that it was given, which is its own across restarts.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name
    }

    /// Returns how long an event is a member's.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Tells whether its handler settles by hand: then its outcome says nothing of what became of the
    /// event.
    #[must_use]
    pub fn is_manual(&self) -> bool {
        self.manual
    }

    /// Tells whether its outcome is not there yet when its handler returns, as that of a broadcast which
    /// waits for its batch.
    #[must_use]
    pub fn is_decided_later(&self) -> bool {
        self.batch && self.group.is_none()
    }

    /// Returns what the bus's backend lets a fleet have in common.
    ///
    /// # Errors
    /// Returns an unsupported error that names the backends that have it, if this one doesn't.
    pub fn commons(&self) -> Result<Arc<dyn Commons>> {
        (self.commons)()
    }

    /// Sets how often the subscription is tried.
    ///
    /// # Errors
    /// Returns a config error if that was set already, by a layer or by `.retry(..)`.
    pub fn retry(&mut self, retry: Retry) -> Result<()> {
        if self.retry.is_some() {
            let why = "how often it is tried was set twice";
            return Err(Error::new(ErrorKind::Config, "subscribe", why)
                .hint("keep one of .retry(..) and .layer(Retry::..)"));
        }
        self.retry = Some(retry);
        Ok(())
    }

    /// Has its group fetch no more than this one lets through.
    pub fn credit(&mut self, credit: Arc<dyn Credit>) {
        self.credits.push(credit);
    }

    /// Refuses what a middleware can't be around, if the outcome is not there when the handler returns.
    pub(crate) fn needs_outcome(&self, what: &str) -> Result<()> {
        let refuse = |why: String, hint: &str| {
            Err(Error::new(ErrorKind::Config, "subscribe", why).hint(hint))
        };
        if self.is_decided_later() {
            let why =
                format!("{what} around one event sees no outcome: a broadcast's batch is later");
            return refuse(why, "give the subscription a group, or leave out the batch");
        }
        Ok(())
    }
}

impl fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setup({:?} in {:?})", self.name, self.group)
    }
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

    /// Runs what comes next; a panic is the failure that the engine makes of it.
    pub(crate) async fn run_contained(self, delivery: &Delivery) -> Outcome {
        let running = AssertUnwindSafe(self.run(delivery)).catch_unwind().await;
        running.unwrap_or_else(|panic| contained("panicked", panic))
    }

    /// Returns the same once more, for those who may run it again.
    #[cfg(feature = "tower")]
    pub(crate) fn again(&self) -> Self {
        Self { ..*self }
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
