//! What caused what runs on a thread now.

use super::trace::{Trace, is_of_trace, trace_id};
use crate::{event::Event, payload::RawPayload};
use scoped_tls::scoped_thread_local;
use std::{collections::BTreeMap, fmt, sync::Arc};
use tracing::level_filters::LevelFilter;

scoped_thread_local! {
    /// What caused what runs on this thread now.
    pub(super) static CAUSE: Event
}

scoped_thread_local! {
    /// What lies around it; unset for a delivery outside of everything, so that this costs nothing.
    static AROUND: Around
}

#[derive(Clone, Debug, Default)]
pub(super) struct Around {
    pub(super) parent: Option<Arc<Context>>,
    // Of deliveries, this one included.
    pub(super) depth: usize,
    pub(super) scope: bool,
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
///     assert_eq!((context.id(), context.causation_id()), (context.event().id(), None));
///     assert!(context.parent().is_none() && context.data().text().unwrap() == "null");
/// })
/// .await;
/// assert!(context::current().is_none());
/// # });
/// ```
#[derive(Clone)]
pub struct Context {
    pub(super) event: Event,
    pub(super) around: Around,
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

    /// Returns the trace that it is a part of, as far as its metadata says something valid of one.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace::of(self.metadata())
    }

    /// Returns the data: the event's payload, or what [`Scope::data`](super::Scope::data) was given.
    #[must_use]
    pub fn data(&self) -> &RawPayload {
        self.event.raw_payload()
    }

    /// Returns the context around this one.
    #[must_use]
    pub fn parent(&self) -> Option<&Self> {
        self.around.parent.as_deref()
    }

    /// Returns what of it can leave the process: the events, each with whether it stands for a
    /// scope, the innermost first.
    #[cfg(feature = "processes")]
    pub(crate) fn leave(&self) -> Vec<(Event, bool)> {
        let all = std::iter::successors(Some(self), |context| context.parent());
        all.map(|context| (context.event.clone(), context.around.scope)).collect()
    }

    /// Makes a context of what left another process.
    #[cfg(feature = "processes")]
    pub(crate) fn arrive(all: Vec<(Event, bool)>) -> Option<Self> {
        all.into_iter().rev().fold(None, |parent, (event, scope)| {
            let depth = usize::from(!scope) + parent.as_ref().map_or(0, |p: &Self| p.around.depth);
            let around = Around { parent: parent.map(Arc::new), depth, scope };
            Some(Self { event, around })
        })
    }

    /// Runs `work` in this context.
    pub(super) fn with<R>(&self, work: impl FnOnce() -> R) -> R {
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
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, context};
///
/// let bus = Bus::new();
/// let tell = || assert_eq!(context::current().map(|c| c.id().to_owned()).as_deref(), Some("e-1"));
/// bus.on("tick").run(tell).now()?;
/// bus.emit(Event::new("tick").id("e-1"))?;
/// assert!(context::current().is_none());
/// # Ok::<(), railbus::Error>(())
/// ```
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
// Apart: who publishes outside of everything must not make room for it.
#[inline(never)]
pub(crate) fn stamp(event: &Event) -> Option<Event> {
    if !CAUSE.is_set() {
        return None;
    }
    CAUSE.with(|cause| {
        if event.id() == cause.id() {
            return None;
        }
        let scope = AROUND.is_set() && AROUND.with(|around| around.scope);
        Some(event.caused_by(cause, &inherited(event, cause.metadata(), scope)))
    })
}

/// Returns the metadata that goes on to an event: all of a scope's, and of a delivery's the trace,
/// unless the event has one of its own.
fn inherited(
    event: &Event,
    metadata: &BTreeMap<String, String>,
    scope: bool,
) -> BTreeMap<String, String> {
    if metadata.is_empty() {
        return BTreeMap::new();
    }
    let others = metadata.iter().filter(|(key, _)| scope && !is_of_trace(key));
    let others = others.map(|(key, value)| (key.clone(), value.clone()));
    let trace = match metadata.keys().any(|key| is_of_trace(key)) {
        true => Trace::of(metadata),
        false => Trace::default(),
    };
    // The state of one trace says nothing of another.
    let own = event.metadata().contains_key("traceparent");
    let trace = trace.metadata().filter(|(key, _)| !own || *key == "baggage");
    others.chain(trace.map(|(key, value)| (key.into(), value.into()))).collect()
}

/// Tells whether nothing caused what runs here.
#[inline]
pub(crate) fn is_outside() -> bool {
    !CAUSE.is_set()
}

/// Runs `work` as a delivery of `event`, and within a span if anyone looks at spans; `outside` if it
/// is known that nothing caused what runs here.
#[inline]
pub(crate) fn deliver<R>(event: &Event, outside: bool, work: impl FnOnce() -> R) -> R {
    let work = || if outside { CAUSE.set(event, work) } else { inside(event).with(work) };
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

/// Returns the span that log lines are written in: one at the level of errors, so that it is there
/// for every line that is.
// Apart: where nobody looks at spans, nothing makes room for one.
#[cold]
#[inline(never)]
pub(crate) fn span(event: &Event) -> tracing::Span {
    tracing::error_span!(
        "event",
        event_id = event.id(),
        event_type = event.event_type(),
        correlation_id = event.correlation_id(),
        causation_id = event.causation_id(),
        trace_id = trace_id(event.metadata()),
    )
}
