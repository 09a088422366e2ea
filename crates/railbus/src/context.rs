//! The context: what caused what runs here.
//!
//! A delivery is a context, and so is a [`scope`]. Whatever is published in it takes over its
//! conversation and names it as its cause, and log lines written in it say so.

use crate::{event::Event, payload::RawPayload};
use scoped_tls::scoped_thread_local;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
};
use tracing::level_filters::LevelFilter;

scoped_thread_local! {
    /// What caused what runs on this thread now.
    static CAUSE: Event
}

scoped_thread_local! {
    /// What lies around it; unset for a delivery outside of everything, so that this costs nothing.
    static AROUND: Around
}

/// The keys of metadata that go on from a delivery to what its handler publishes: trace contexts.
const CARRIED: [&str; 3] = ["traceparent", "tracestate", "baggage"];

#[derive(Clone, Debug, Default)]
struct Around {
    parent: Option<Arc<Context>>,
    // Of deliveries, this one included.
    depth: usize,
    scope: bool,
}

/// What caused what runs now: an event that is being delivered, or a scope of the program's own.
///
/// A handler may take it as an argument.
///
/// # Examples
/// ```
/// use railbus::context;
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let work = context::scope("user.created").correlation_id("req_123").metadata("source", "api");
/// work.run(async {
///     let context = context::current().expect("inside of a scope");
///     assert_eq!((context.correlation_id(), context.event_type()), ("req_123", "user.created"));
/// })
/// .await;
/// assert!(context::current().is_none());
/// # });
/// ```
#[derive(Clone)]
pub struct Context {
    event: Event,
    around: Around,
}

impl Context {
    /// Returns the event that is being delivered; for a scope, one that stands for it.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns the id of the event or scope.
    #[must_use]
    pub fn id(&self) -> &str {
        self.event.id()
    }

    /// Returns the type of the event or scope.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.event.event_type()
    }

    /// Returns the id of the conversation.
    #[must_use]
    pub fn correlation_id(&self) -> &str {
        self.event.correlation_id()
    }

    /// Returns the id of the event that caused this one.
    #[must_use]
    pub fn causation_id(&self) -> Option<&str> {
        self.event.causation_id()
    }

    /// Returns the metadata.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.event.metadata()
    }

    /// Returns the data: the event's payload, or what [`Scope::data`] was given.
    #[must_use]
    pub fn data(&self) -> &RawPayload {
        self.event.raw_payload()
    }

    /// Returns the context around this one.
    #[must_use]
    pub fn parent(&self) -> Option<&Self> {
        self.around.parent.as_deref()
    }

    /// Runs `work` in this context.
    fn with<R>(&self, work: impl FnOnce() -> R) -> R {
        AROUND.set(&self.around, || CAUSE.set(&self.event, work))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} {}", self.event_type(), self.id())?;
        match self.parent() {
            Some(parent) => write!(f, " in {parent:?})"),
            None => f.write_str(")"),
        }
    }
}

/// Returns what caused what runs here; none outside of deliveries and scopes.
#[must_use]
pub fn current() -> Option<Context> {
    CAUSE.is_set().then(|| Context { event: CAUSE.with(Event::clone), around: around() })
}

fn around() -> Around {
    match AROUND.is_set() {
        true => AROUND.with(Around::clone),
        false => Around { depth: usize::from(CAUSE.is_set()), ..Around::default() },
    }
}

/// Returns how many deliveries deep the caller is: 0 outside of handlers.
pub(crate) fn depth() -> usize {
    match AROUND.is_set() {
        true => AROUND.with(|around| around.depth),
        false => usize::from(CAUSE.is_set()),
    }
}

/// Returns the event as it is published here: by whom it is caused, if nothing else is said.
pub(crate) fn stamp(event: &Event) -> Option<Event> {
    if !CAUSE.is_set() {
        return None;
    }
    CAUSE.with(|cause| {
        if event.id() == cause.id() {
            return None;
        }
        let scope = AROUND.is_set() && AROUND.with(|around| around.scope);
        let goes_on = |key: &str| scope || CARRIED.contains(&key);
        let inherited = cause.metadata().iter().filter(|(key, _)| goes_on(key));
        let inherited = inherited.map(|(key, value)| (key.clone(), value.clone())).collect();
        Some(event.caused_by(cause, &inherited))
    })
}

/// Tells whether nothing caused what runs here.
#[inline]
pub(crate) fn is_outside() -> bool {
    !CAUSE.is_set()
}

/// Runs `work` as a delivery of `event`, and within a span if anyone looks at spans.
#[inline]
pub(crate) fn deliver<R>(event: &Event, work: impl FnOnce() -> R) -> R {
    let work = || if CAUSE.is_set() { inside(event).with(work) } else { CAUSE.set(event, work) };
    match LevelFilter::current() == LevelFilter::OFF {
        true => work(),
        false => span(event).in_scope(work),
    }
}

/// Returns the context of a delivery of `event` within what runs here.
pub(crate) fn inside(event: &Event) -> Context {
    let parent = current().map(Arc::new);
    Context { event: event.clone(), around: Around { parent, depth: depth() + 1, scope: false } }
}

/// Starts a scope: a context for work of the program's own, named like a type of events.
pub fn scope(event_type: impl AsRef<str>) -> Scope {
    Scope { parent: current(), given: Given::default(), event_type: event_type.as_ref().into() }
}

/// A scope in the making; [`Scope::run`] runs work in it.
#[derive(Debug)]
#[must_use = "a scope does nothing until something runs in it"]
pub struct Scope {
    event_type: String,
    parent: Option<Context>,
    given: Given,
}

#[derive(Debug, Default)]
struct Given {
    id: Option<String>,
    correlation_id: Option<String>,
    metadata: BTreeMap<String, String>,
    data: Option<RawPayload>,
}

impl Scope {
    /// Sets the id (default: a new one).
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.given.id = Some(id.into());
        self
    }

    /// Sets the id of the conversation (default: that of the context around it, else its own id).
    pub fn correlation_id(mut self, id: impl Into<String>) -> Self {
        self.given.correlation_id = Some(id.into());
        self
    }

    /// Adds metadata, beside that of the scope around it; what is published in the scope has it.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.given.metadata.insert(key.into(), value.into());
        self
    }

    /// Sets the data that the work is about (default: none).
    pub fn data<T: Serialize + Send + Sync + 'static>(mut self, data: T) -> Self {
        self.given.data = Some(RawPayload::of(data));
        self
    }

    /// Sets the context around it (default: the current one); `None` makes it a root.
    pub fn parent(mut self, parent: Option<Context>) -> Self {
        self.parent = parent;
        self
    }

    /// Runs a future in the scope.
    ///
    /// # Cancel safety
    /// That of the future.
    pub fn run<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        let (context, depth) = self.make();
        Within::new(context, depth, work)
    }

    /// Runs a closure in the scope.
    pub fn run_sync<R>(self, work: impl FnOnce() -> R) -> R {
        let (mut context, depth) = self.make();
        context.around.depth = depth;
        span(&context.event).in_scope(|| context.with(work))
    }

    fn make(self) -> (Context, usize) {
        let Self { event_type, parent, given } = self;
        let mut event = Event::new(event_type);
        if let Some(id) = given.id {
            event = event.id(id);
        }
        if let Some(id) = given.correlation_id {
            event = event.correlation(id);
        }
        for (key, value) in given.metadata {
            event = event.metadata(key, value);
        }
        let mut event = event.raw_payload(given.data.unwrap_or_else(RawPayload::null));
        if let Some(parent) = &parent {
            event = parent.with(|| stamp(&event)).unwrap_or(event);
        }
        let around = Around { parent: parent.map(Arc::new), depth: 0, scope: true };
        (Context { event, around }, depth())
    }
}

/// Spawns a task that goes on in the current context; outside of one it is a plain task.
///
/// The task is no delivery: closing a bus does not wait for it.
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
    fn new(mut context: Context, depth: usize, work: F) -> Self {
        context.around.depth = depth;
        Self { span: span(&context.event), context, work }
    }

    /// Polls `work` as a delivery of `event` within what runs here.
    pub(crate) fn delivery(event: &Event, work: F) -> Self {
        let context = inside(event);
        Self { span: span(event), context, work }
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

/// Returns the span that log lines are written in: one at the level of errors, so that it is there
/// for every line that is.
pub(crate) fn span(event: &Event) -> tracing::Span {
    tracing::error_span!(
        "event",
        event_id = event.id(),
        event_type = event.event_type(),
        correlation_id = event.correlation_id(),
        causation_id = event.causation_id(),
    )
}
