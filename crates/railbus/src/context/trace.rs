//! The trace that an event is a part of: W3C Trace Context and Baggage.

use super::{baggage, traceparent::TraceParent, tracestate};
use std::collections::BTreeMap;

/// The keys of metadata that are a trace's.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// The trace that an event is a part of, as W3C Trace Context and Baggage have it.
///
/// Railbus keeps no spans, so what an event's metadata says of a trace goes on unchanged to what its
/// handler publishes: a tracer that records there finds the one that recorded before. What is not
/// valid does not go on. Who records spans starts one by [`Scope::traced`](super::Scope::traced), or by
/// [`Trace::child`].
///
/// # Examples
/// ```
/// use railbus::{Event, context::Trace};
///
/// let headers = [
///     ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
///     ("tracestate", "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"),
///     ("baggage", "user=Am%C3%A9lie;internal, tenant=north"),
/// ];
/// let trace = Trace::from_headers(headers);
/// assert_eq!(trace.trace_id(), Some("0af7651916cd43dd8448eb211c80319c"));
/// assert_eq!((trace.span_id(), trace.is_sampled()), (Some("b7ad6b7169203331"), true));
/// assert_eq!(trace.state(), Some("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"));
/// assert_eq!(trace.baggage_of("user").as_deref(), Some("Amélie"));
///
/// let span = trace.child().with_baggage("order", "7, please");
/// assert_eq!((span.trace_id(), span.is_sampled()), (trace.trace_id(), true));
/// assert_ne!(span.span_id(), trace.span_id());
/// assert_eq!(span.baggage(), Some("user=Am%C3%A9lie;internal,tenant=north,order=7%2C%20please"));
///
/// let mut event = Event::new("order.placed");
/// for (key, value) in span.metadata() {
///     event = event.metadata(key, value);
/// }
/// # let event = railbus::IntoEvent::into_event(event);
/// assert_eq!(Trace::of(std::borrow::Borrow::<Event>::borrow(&event).metadata()), span);
/// assert!(Trace::from_headers([("traceparent", "00-1-2-01")]).parent().is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    parent: Option<TraceParent>,
    state: Option<String>,
    baggage: Option<String>,
}

impl Trace {
    /// Reads what metadata says of a trace; what is not valid is left out.
    #[must_use]
    pub fn of(metadata: &BTreeMap<String, String>) -> Self {
        let of = |key| metadata.get(key).map(String::as_str).into_iter();
        Self::read(of(PARENT), of(STATE), of(BAGGAGE))
    }

    /// Reads what headers say of a trace, whatever the case of their names. One that is there several
    /// times is read as one list, but for `traceparent`, which is not valid then.
    #[must_use]
    pub fn from_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let headers: Vec<_> = headers.into_iter().collect();
        let of = |key: &'static str| {
            let named = headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(key));
            named.map(|(_, value)| *value)
        };
        Self::read(of(PARENT), of(STATE), of(BAGGAGE))
    }

    fn read<'a>(
        mut parent: impl Iterator<Item = &'a str>,
        state: impl Iterator<Item = &'a str>,
        baggage: impl Iterator<Item = &'a str>,
    ) -> Self {
        let parent = parent.next().filter(|_| parent.next().is_none()).and_then(TraceParent::read);
        // It says something of a trace that is not known.
        let state = parent.as_ref().and_then(|_| tracestate::read(state));
        Self { parent, state, baggage: baggage::read(baggage) }
    }

    /// Returns what is said of the span within the trace, as the metadata `traceparent` has it.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_ref().map(TraceParent::text)
    }

    /// Returns the trace's id.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.parent.as_ref().map(TraceParent::trace_id)
    }

    /// Returns the id of the span within the trace.
    #[must_use]
    pub fn span_id(&self) -> Option<&str> {
        self.parent.as_ref().map(TraceParent::span_id)
    }

    /// Tells whether who began the trace may keep it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.parent.as_ref().is_some_and(TraceParent::is_sampled)
    }

    /// Returns what tracers say to themselves, as the metadata `tracestate` has it.
    #[must_use]
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns what a program gives along, as the metadata `baggage` has it: at most 64 members and
    /// 8192 bytes, the rest of a longer one is left out.
    #[must_use]
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }

    /// Returns the value of a member of the baggage, decoded.
    #[must_use]
    pub fn baggage_of(&self, key: &str) -> Option<String> {
        baggage::get(self.baggage.as_deref()?, key)
    }

    /// Adds a member to the baggage; a key that is no token of HTTP, or one too many, adds nothing.
    #[must_use]
    pub fn with_baggage(mut self, key: &str, value: &str) -> Self {
        if let Some(baggage) = baggage::with(self.baggage.as_deref(), key, value) {
            self.baggage = Some(baggage);
        }
        self
    }

    /// Makes a span within the trace: the same trace, state and baggage, under a span id of its own.
    /// Where there is no trace one begins, not sampled.
    #[must_use]
    pub fn child(&self) -> Self {
        let parent = self.parent.as_ref().map_or_else(TraceParent::root, TraceParent::child);
        Self { parent: Some(parent), ..self.clone() }
    }

    /// Returns it as metadata.
    pub fn metadata(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [(PARENT, self.parent()), (STATE, self.state()), (BAGGAGE, self.baggage())];
        all.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)))
    }
}

/// Tells whether a key of metadata is a trace's.
pub(super) fn is_of_trace(key: &str) -> bool {
    [PARENT, STATE, BAGGAGE].contains(&key)
}

/// Returns a trace's id out of metadata, for log lines.
pub(crate) fn trace_id(metadata: &BTreeMap<String, String>) -> Option<String> {
    let parent = TraceParent::read(metadata.get(PARENT)?)?;
    Some(parent.trace_id().to_owned())
}
