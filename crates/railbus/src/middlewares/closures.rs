//! Closures as hooks.

use super::hooks::{Hooks, failed};
use crate::{
    delivery::{Delivery, Outcome},
    error::{BoxError, chain},
};
use async_trait::async_trait;
use std::{fmt, future::Future, marker::PhantomData, pin::Pin};

/// What a hook is waited for by.
#[doc(hidden)]
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'a>>;

/// What a hook may return: nothing, or a `Result` with any error.
#[doc(hidden)]
pub trait Watched {
    /// Turns it into a result.
    ///
    /// # Errors
    /// The hook's.
    fn watched(self) -> Result<(), BoxError>;
}

impl Watched for () {
    fn watched(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> Watched for Result<(), E> {
    fn watched(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

/// A closure that is called with a delivery: `|delivery: &Delivery| ..` or
/// `async |delivery: Delivery| ..`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a hook",
    note = "it is `|delivery: &Delivery| ..` or `async |delivery: Delivery| ..`, and returns () or a Result<(), E>"
)]
pub trait Watch<M>: Send + Sync + 'static {
    /// Calls it.
    fn call<'a>(&'a self, delivery: &'a Delivery) -> HookFuture<'a>;
}

/// A closure that is called with a delivery and why it failed: `|delivery: &Delivery, error: &BoxError| ..`
/// or `async |delivery: Delivery, error: String| ..`.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a hook for errors",
    note = "it is `|delivery: &Delivery, error: &BoxError| ..` or `async |delivery: Delivery, error: String| ..`, and returns () or a Result<(), E>"
)]
pub trait WatchError<M>: Send + Sync + 'static {
    /// Calls it.
    fn call<'a>(&'a self, delivery: &'a Delivery, error: &'a BoxError) -> HookFuture<'a>;
}

/// Marks closures that don't await.
#[doc(hidden)]
#[derive(Debug)]
pub struct InPlace;
/// Marks closures that do.
#[doc(hidden)]
#[derive(Debug)]
pub struct InTime;

impl<F, R> Watch<(InPlace, R)> for F
where
    F: Fn(&Delivery) -> R + Send + Sync + 'static,
    R: Watched,
{
    fn call<'a>(&'a self, delivery: &'a Delivery) -> HookFuture<'a> {
        Box::pin(async move { self(delivery).watched() })
    }
}

impl<F, Fut> Watch<(InTime, Fut)> for F
where
    F: FnOnce(Delivery) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: Watched> + Send + 'static,
{
    fn call<'a>(&'a self, delivery: &'a Delivery) -> HookFuture<'a> {
        let called = self.clone();
        Box::pin(async move { called(delivery.clone()).await.watched() })
    }
}

impl<F, R> WatchError<(InPlace, R)> for F
where
    F: Fn(&Delivery, &BoxError) -> R + Send + Sync + 'static,
    R: Watched,
{
    fn call<'a>(&'a self, delivery: &'a Delivery, error: &'a BoxError) -> HookFuture<'a> {
        Box::pin(async move { self(delivery, error).watched() })
    }
}

impl<F, Fut> WatchError<(InTime, Fut)> for F
where
    F: FnOnce(Delivery, String) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output: Watched> + Send + 'static,
{
    fn call<'a>(&'a self, delivery: &'a Delivery, error: &'a BoxError) -> HookFuture<'a> {
        let (called, error) = (self.clone(), chain(&**error));
        Box::pin(async move { called(delivery.clone(), error).await.watched() })
    }
}

/// A closure before the handler.
pub struct Before<F, M>(F, PhantomData<fn() -> M>);
/// A closure after a handler that did not fail.
pub struct After<F, M>(F, PhantomData<fn() -> M>);
/// A closure after a try that failed.
pub struct OnError<F, M>(F, PhantomData<fn() -> M>);

/// Calls a closure before the handler; its error is the try's failure, and the handler does not run.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, delivery::Delivery, middlewares::{Before, before}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let known = |delivery: &Delivery| match delivery.source() {
///     "" => Err("nobody knows who sent it"),
///     _ => Ok(()),
/// };
/// let hook: Before<_, _> = before(known);
/// bus.on("order.placed").layer(hook).run(|_: &Event| {}).await?;
/// let report = bus.publish(Event::new("order.placed").source("")).await?;
/// assert_eq!(report.failures[0].error, "nobody knows who sent it");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn before<M: 'static, F: Watch<M>>(hook: F) -> Before<F, M> {
    Before(hook, PhantomData)
}

/// Calls a closure after a handler that did not fail; its error is told in the log.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, delivery::Delivery, middlewares::{After, after}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let tell = async |delivery: Delivery| println!("{} is through", delivery.event_type());
/// let hook: After<_, _> = after(tell);
/// bus.on("order.placed").layer(hook).run(|_: &Event| {}).await?;
/// bus.publish(Event::new("order.placed")).await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn after<M: 'static, F: Watch<M>>(hook: F) -> After<F, M> {
    After(hook, PhantomData)
}

/// Calls a closure after a try that failed; its own error is told in the log.
///
/// # Examples
/// ```
/// use railbus::{BoxError, Bus, Event, delivery::Delivery, middlewares::{OnError, on_error}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let tell = |delivery: &Delivery, error: &BoxError| println!("try {}: {error}", delivery.attempt());
/// let hook: OnError<_, _> = on_error(tell);
/// bus.on("order.placed").layer(hook).run(|_: &Event| Err::<(), _>("no card")).await?;
/// assert_eq!(bus.publish(Event::new("order.placed")).await?.failures.len(), 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn on_error<M: 'static, F: WatchError<M>>(hook: F) -> OnError<F, M> {
    OnError(hook, PhantomData)
}

#[async_trait]
impl<M: 'static, F: Watch<M>> Hooks for Before<F, M> {
    async fn before(&self, delivery: &Delivery) -> Result<(), BoxError> {
        self.0.call(delivery).await
    }
}

#[async_trait]
impl<M: 'static, F: Watch<M>> Hooks for After<F, M> {
    async fn after(&self, delivery: &Delivery, _: &Outcome) {
        if let Err(error) = self.0.call(delivery).await {
            failed(delivery, &error);
        }
    }
}

#[async_trait]
impl<M: 'static, F: WatchError<M>> Hooks for OnError<F, M> {
    async fn on_error(&self, delivery: &Delivery, error: &BoxError) {
        if let Err(error) = self.0.call(delivery, error).await {
            failed(delivery, &error);
        }
    }
}

impl<F, M> fmt::Debug for Before<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Before")
    }
}

impl<F, M> fmt::Debug for After<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("After")
    }
}

impl<F, M> fmt::Debug for OnError<F, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnError")
    }
}
