//! Hooks: what is called before a handler, after it, and when it failed.

use crate::{
    delivery::{Delivery, Outcome, contained, panic_text},
    error::{BoxError, Result, chain},
    middleware::{Middleware, Next, Setup},
};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::{future::Future, panic::AssertUnwindSafe};

/// What is called before a handler, after it, and when it failed, at each try. Every `Hooks` is a
/// [`Middleware`]; closures become one by [`before`](super::before), [`after`](super::after) and
/// [`on_error`](super::on_error).
///
/// A hook that fails loses no event and reruns no handler. If `before` returns an error or panics, the
/// handler does not run: that is the try's failure, which the policy decides about. What `after` and
/// `on_error` break is told in the log, and the outcome stays what it was.
///
/// # Examples
/// ```
/// use railbus::{BoxError, Bus, Event, delivery::{Delivery, Outcome}, middlewares::Hooks};
///
/// struct Logging;
///
/// #[async_trait::async_trait]
/// impl Hooks for Logging {
///     async fn before(&self, delivery: &Delivery) -> Result<(), BoxError> {
///         println!("Processing event: {}", delivery.event_type());
///         Ok(())
///     }
///
///     async fn after(&self, delivery: &Delivery, _outcome: &Outcome) {
///         println!("Completed event: {}", delivery.event_type());
///     }
///
///     async fn on_error(&self, delivery: &Delivery, error: &BoxError) {
///         println!("Error processing {}: {error}", delivery.event_type());
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// bus.on("user.*").layer(Logging).run(|user: &Event| println!("{user:?}")).await?;
/// bus.publish(Event::new("user.created")).await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Is called before the handler (default: does nothing).
    ///
    /// # Errors
    /// Any error is the try's failure, and the handler does not run.
    async fn before(&self, delivery: &Delivery) -> Result<(), BoxError> {
        let _ = delivery;
        Ok(())
    }

    /// Is called after a handler that did not fail (default: does nothing).
    async fn after(&self, delivery: &Delivery, outcome: &Outcome) {
        let _ = (delivery, outcome);
    }

    /// Is called after a try that failed, be it by an error, a panic, or a dead letter that the handler
    /// asked for (default: does nothing).
    async fn on_error(&self, delivery: &Delivery, error: &BoxError) {
        let _ = (delivery, error);
    }
}

#[async_trait]
impl<H: Hooks> Middleware for H {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        let before = AssertUnwindSafe(self.before(delivery)).catch_unwind().await;
        let outcome = match before {
            Ok(Ok(())) => next.run_contained(delivery).await,
            Ok(Err(error)) => Outcome::Failed(error),
            Err(panic) => contained("a hook before the handler panicked", panic),
        };
        match &outcome {
            Outcome::Failed(error) => told(delivery, self.on_error(delivery, error)).await,
            Outcome::DeadLetter(reason) => {
                let error = reason.clone().into();
                told(delivery, self.on_error(delivery, &error)).await;
            }
            _ => told(delivery, self.after(delivery, &outcome)).await,
        }
        outcome
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        setup.needs_outcome("a hook")
    }
}

/// Runs a hook whose panic changes nothing any more.
async fn told(delivery: &Delivery, hook: impl Future<Output = ()> + Send) {
    if let Err(panic) = AssertUnwindSafe(hook).catch_unwind().await {
        broken(delivery, &panic_text(panic));
    }
}

/// Tells of a hook that failed when the outcome was there.
pub(super) fn broken(delivery: &Delivery, why: &str) {
    let (id, event_type) = (delivery.event().id(), delivery.event().event_type());
    tracing::warn!(id, event_type, why, "a hook failed: the outcome stays");
}

/// Tells of an error of a hook, when the outcome was there.
pub(super) fn failed(delivery: &Delivery, error: &BoxError) {
    broken(delivery, &chain(&**error));
}
