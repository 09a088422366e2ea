//! Scopes: contexts for work of the program's own.

use super::{
    current::{Around, Context, current, depth, span, stamp},
    trace::Trace,
    within::Within,
};
use crate::{event::Event, payload::RawPayload};
use serde::Serialize;
use std::{collections::BTreeMap, future::Future, sync::Arc};

/// Starts a scope: a context for work of the program's own, named like a type of events.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, context};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, work) = (Bus::new(), context::scope("import").id("i-1").metadata("tenant", "north"));
/// bus.on("tick").run(|event: &Event| {
///     assert_eq!((event.causation_id(), &*event.metadata()["tenant"]), (Some("i-1"), "north"));
/// }).await?;
/// work.run(async { bus.publish(Event::new("tick")).await }).await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn scope(event_type: impl AsRef<str>) -> Scope {
    Scope { parent: current(), given: Given::default(), event_type: event_type.as_ref().into() }
}

/// A scope in the making; [`Scope::run`] runs work in it.
///
/// # Examples
/// ```
/// use railbus::context::{self, Scope};
///
/// let outer: Scope = context::scope("import").id("i-1").data(vec![1, 2]);
/// outer.run_sync(|| {
///     let around = context::current();
///     assert_eq!(around.as_ref().unwrap().data().get::<Vec<u8>>().unwrap(), [1, 2]);
///     context::scope("line").parent(around).run_sync(|| {
///         let line = context::current().unwrap();
///         assert_eq!((line.causation_id(), line.parent().unwrap().id()), (Some("i-1"), "i-1"));
///     });
/// });
/// ```
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
    traced: bool,
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

    /// Makes it a span within the trace around it, or the beginning of one: what is published in it
    /// names the scope's span as its parent. For programs that record spans.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Context, context};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// let work = context::scope("import").metadata("traceparent", parent).traced();
    /// work.run(async {
    ///     let span = context::current().unwrap().trace();
    ///     assert_eq!(span.trace_id(), Some("0af7651916cd43dd8448eb211c80319c"));
    ///     assert_ne!(span.span_id(), Some("b7ad6b7169203331"));
    /// })
    /// .await;
    /// # });
    /// ```
    pub fn traced(mut self) -> Self {
        self.given.traced = true;
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
        if given.traced {
            let span = Trace::of(event.metadata()).child();
            for (key, value) in span.metadata() {
                event.set_metadata(key, value);
            }
        }
        let around = Around { parent: parent.map(Arc::new), depth: 0, scope: true };
        (Context { event, around }, depth())
    }
}
