//! Futures that are polled in a context.

use super::current::{CAUSE, Context, current, inside, is_outside, span};
use crate::event::Event;
use std::{
    future::Future,
    pin::Pin,
    task::{Poll, ready},
};
use tracing::level_filters::LevelFilter;

/// Spawns a task that goes on in the current context; outside of one it is a plain task.
///
/// The task is no delivery: closing a bus does not wait for it.
///
/// # Examples
/// ```
/// use railbus::context;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let work = context::scope("import").run(async {
///     let type_here = || context::current().map(|c| c.event_type().to_owned());
///     context::spawn(async move { type_here() }).await
/// });
/// assert_eq!(work.await.unwrap().as_deref(), Some("import"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
///
/// # Panics
/// Panics outside of a tokio runtime, as [`tokio::spawn`] does.
pub fn spawn<F>(work: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match current() {
        Some(context) => tokio::spawn(Within::new(context, 0, work)),
        None => tokio::spawn(work),
    }
}

/// Runs a future in a context that was taken elsewhere, as no delivery.
pub(crate) fn within<F: Future>(context: Context, work: F) -> Within<F> {
    Within::new(context, 0, work)
}

pin_project_lite::pin_project! {
    /// A future that is polled in a context, and in a span that says so.
    pub(crate) struct Within<F> {
        context: Context,
        span: tracing::Span,
        #[pin]
        work: F,
    }
}

impl<F> Within<F> {
    pub(super) fn new(mut context: Context, depth: usize, work: F) -> Self {
        context.around.depth = depth;
        Self { span: span(&context.event), context, work }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _in_span = this.span.enter();
        Poll::Ready(ready!(this.context.with(|| this.work.poll(cx))))
    }
}

pin_project_lite::pin_project! {
    /// A future that is polled as the delivery of an event, and in a span that says so.
    pub(crate) struct Delivering<'a, F> {
        event: &'a Event,
        // None for a delivery outside of everything.
        context: Option<Context>,
        // None while nobody looks at spans.
        span: Option<tracing::Span>,
        #[pin]
        work: F,
    }
}

impl<'a, F> Delivering<'a, F> {
    /// Makes `work` a delivery of `event` within what runs here.
    pub(crate) fn new(event: &'a Event, work: F) -> Self {
        let context = (!is_outside()).then(|| inside(event));
        let span = (LevelFilter::current() != LevelFilter::OFF).then(|| span(event));
        Self { event, context, span, work }
    }
}

impl<F: Future> Future for Delivering<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _in_span = this.span.as_ref().map(tracing::Span::enter);
        match this.context {
            None => CAUSE.set(this.event, || this.work.poll(cx)),
            Some(context) => context.with(|| this.work.poll(cx)),
        }
    }
}
