//! Which events a subscription wants.

use super::interest::{Clause, Interest};
use crate::{
    error::{Error, ErrorKind, Result},
    event::Event,
    topic::Pattern,
};
use serde_json::Value;
use std::{
    fmt,
    ops::{BitAnd, BitOr, Not},
    sync::Arc,
};

/// Which events: composable with `&`, `|` and `!`, and open to inspection.
///
/// Its type and topic parts are pushed down to the backend, the rest is asked in process.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Predicate, event_type, json, key_equals, topic};
///
/// let wanted = event_type("order.*") & (topic("shop") | topic("web:*")) & !key_equals("lines", 0);
/// let order = Event::new("order.placed").topic("shop").payload(json!({"lines": 2}));
/// assert!(wanted.matches(&order));
/// assert_eq!(wanted.to_string(), "((type order.* & (topic shop | topic web:*)) & !lines = 0)");
///
/// // A closure asks anything, but nobody can look into it.
/// let busy = Predicate::from(|event: &Event| event.get::<u32>("lines") > Some(10));
/// assert!(!busy.matches(&order));
/// ```
#[derive(Clone)]
pub struct Predicate(Node);

#[derive(Clone)]
enum Node {
    Any,
    // A type given as a bare text, which is checked for being a topic by mistake.
    Bare(Pattern),
    Type(Pattern),
    Topic(Pattern),
    Source(Pattern),
    SourcePrefix(Arc<str>),
    HasKey(Arc<str>),
    KeyEquals(Arc<str>, Arc<Value>),
    And(Arc<Node>, Arc<Node>),
    Or(Arc<Node>, Arc<Node>),
    Not(Arc<Node>),
    Closure(Arc<dyn Fn(&Event) -> bool + Send + Sync>),
}

/// Matches every event.
///
/// # Examples
/// ```
/// use railbus::{Event, any};
///
/// assert!(any().matches(&Event::new("order.placed").payload(1)));
/// ```
#[must_use]
pub fn any() -> Predicate {
    Predicate(Node::Any)
}

/// Matches events whose type matches the pattern: `order.placed`, `order.*`.
///
/// # Examples
/// ```
/// use railbus::{Event, event_type};
///
/// let event = Event::new("order.placed").payload(1);
/// assert!(event_type("order.placed").matches(&event) && event_type("order.*").matches(&event));
/// assert!(!event_type("order").matches(&event));
/// ```
#[must_use]
pub fn event_type(pattern: &str) -> Predicate {
    Predicate(Node::Type(Pattern::new(pattern)))
}

/// Matches events whose topic matches the pattern: `registry:bots`, `registry:*`.
///
/// # Examples
/// ```
/// use railbus::{Event, topic};
///
/// let event = Event::new("updated").topic("registry:bots:config").payload(1);
/// assert!(topic("registry:*").matches(&event));
/// assert!(!topic("registry:bots").matches(&event));
/// ```
#[must_use]
pub fn topic(pattern: &str) -> Predicate {
    Predicate(Node::Topic(Pattern::new(pattern)))
}

/// Matches events that name exactly this source.
///
/// # Examples
/// ```
/// use railbus::{Event, source_is};
///
/// let event = Event::new("step_start").source("Demo.Load").payload(1);
/// assert!(source_is("Demo.Load").matches(&event) && !source_is("Demo.*").matches(&event));
/// ```
#[must_use]
pub fn source_is(source: &str) -> Predicate {
    // A set of one character is that character: special characters stand for themselves.
    let literal: String = source
        .chars()
        .map(|c| if "*?[".contains(c) { format!("[{c}]") } else { c.to_string() })
        .collect();
    Predicate(Node::Source(Pattern::new(literal)))
}

/// Matches events whose source starts with `prefix`.
///
/// # Examples
/// ```
/// use railbus::{Event, source_starts_with};
///
/// let event = Event::new("step_start").source("Demo.Load").payload(1);
/// assert!(source_starts_with("Demo.").matches(&event));
/// ```
#[must_use]
pub fn source_starts_with(prefix: &str) -> Predicate {
    Predicate(Node::SourcePrefix(prefix.into()))
}

/// Matches events with something at `path` in their payload.
///
/// # Examples
/// ```
/// use railbus::{Event, has_key, json};
///
/// let event = Event::new("order.placed").payload(json!({"customer": {"id": 7}, "lines": null}));
/// assert!(has_key("customer.id").matches(&event) && has_key("lines").matches(&event));
/// assert!(!has_key("id").matches(&event));
/// ```
#[must_use]
pub fn has_key(path: &str) -> Predicate {
    Predicate(Node::HasKey(path.into()))
}

/// Matches events with `value` at `path` in their payload: numbers by value, a missing key never.
///
/// # Examples
/// ```
/// use railbus::{Event, Value, json, key_equals};
///
/// let event = Event::new("order.placed").payload(json!({"total": 10, "customer": {"id": "C-7"}}));
/// assert!(key_equals("total", 10.0).matches(&event));
/// assert!(key_equals("customer.id", "C-7").matches(&event));
/// assert!(!key_equals("missing", Value::Null).matches(&event));
/// ```
#[must_use]
pub fn key_equals(path: &str, value: impl Into<Value>) -> Predicate {
    Predicate(Node::KeyEquals(path.into(), Arc::new(value.into())))
}

impl Predicate {
    /// Tells whether `event` is wanted.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        self.0.matches(event)
    }

    /// Returns the types and topics that can match: at least all that do.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Predicate, event_type, has_key, topic};
    ///
    /// let wanted = event_type("order.*") & topic("shop") & has_key("lines");
    /// assert_eq!(wanted.interest().to_string(), "type order.* & topic shop");
    /// assert!(wanted.check().is_ok() && Predicate::from("registry:bots").check().is_err());
    /// assert!(topic("shop").is_typed() && !event_type("order.*").is_typed());
    /// assert_eq!(topic("shop").as_topic().map(|pattern| pattern.as_str()), Some("shop"));
    /// assert!(event_type("order.*").as_type().is_some());
    /// ```
    #[must_use]
    pub fn interest(&self) -> Interest {
        Interest(self.0.clauses())
    }

    /// Checks that the predicate is not one that surely matches nothing.
    ///
    /// # Errors
    /// Refuses a bare type with a `:` in it: types have dots, topics have colons. Also refuses
    /// what asks for an empty type or topic, or for two of which an event has one.
    pub fn check(&self) -> Result<()> {
        if self.0.clauses().is_empty() {
            let why = format!("`{self}` can never match");
            return Err(Error::new(ErrorKind::Config, "subscribe", why).hint(
                "an event has one type and one topic, neither is empty: join several with `|`",
            ));
        }
        let Some(pattern) = self.0.mistaken_topic() else { return Ok(()) };
        let why = format!("`{pattern}` looks like a topic, but a bare text is a type");
        Err(Error::new(ErrorKind::Config, "subscribe", why)
            .hint(format!("write topic(\"{pattern}\"), or event_type(..) if it is a type")))
    }

    /// Tells whether a closure is asked, which may do anything.
    pub(crate) fn asks_closures(&self) -> bool {
        self.0.asks_closures()
    }

    /// Tells whether an event of this type on this topic may be wanted.
    pub(crate) fn may_want(&self, event_type: &str, topic: &str) -> bool {
        self.0.may_want(event_type, topic)
    }

    /// Tells whether it asks for nothing but one type, one topic, or anything at all.
    pub(crate) fn is_plain(&self) -> bool {
        match &self.0 {
            Node::Any => true,
            Node::Bare(p) | Node::Type(p) | Node::Topic(p) => p.is_exact(),
            _ => false,
        }
    }

    /// Returns the topics it asks for, if it asks for nothing else.
    #[must_use]
    pub fn as_topic(&self) -> Option<&Pattern> {
        match &self.0 {
            Node::Topic(pattern) => Some(pattern),
            _ => None,
        }
    }

    /// Returns the types it asks for, if it asks for nothing else.
    #[must_use]
    pub fn as_type(&self) -> Option<&Pattern> {
        match &self.0 {
            Node::Bare(pattern) | Node::Type(pattern) => Some(pattern),
            _ => None,
        }
    }

    /// Tells whether the predicate pins a type or an exact topic; such subscriptions come before
    /// catch-alls of equal priority.
    #[must_use]
    pub fn is_typed(&self) -> bool {
        self.0.is_typed()
    }
}

impl Node {
    fn matches(&self, event: &Event) -> bool {
        match self {
            Self::Any => true,
            Self::Bare(pattern) | Self::Type(pattern) => pattern.matches(event.event_type()),
            Self::Topic(pattern) => pattern.matches(event.topic()),
            Self::Source(pattern) => pattern.matches(event.source()),
            Self::SourcePrefix(prefix) => event.source().starts_with(&**prefix),
            Self::HasKey(path) => event.raw_payload().at(path).is_some(),
            Self::KeyEquals(path, wanted) => {
                event.raw_payload().at(path).is_some_and(|found| equal(found, wanted))
            }
            Self::And(a, b) => a.matches(event) && b.matches(event),
            Self::Or(a, b) => a.matches(event) || b.matches(event),
            Self::Not(a) => !a.matches(event),
            Self::Closure(f) => f(event),
        }
    }

    fn may_want(&self, event_type: &str, topic: &str) -> bool {
        match self {
            Self::Bare(pattern) | Self::Type(pattern) => pattern.matches(event_type),
            Self::Topic(pattern) => pattern.matches(topic),
            Self::And(a, b) => a.may_want(event_type, topic) && b.may_want(event_type, topic),
            Self::Or(a, b) => a.may_want(event_type, topic) || b.may_want(event_type, topic),
            _ => true,
        }
    }

    fn mistaken_topic(&self) -> Option<&Pattern> {
        match self {
            Self::Bare(pattern) => Some(pattern).filter(|p| p.as_str().contains(':')),
            Self::And(a, b) | Self::Or(a, b) => a.mistaken_topic().or_else(|| b.mistaken_topic()),
            Self::Not(a) => a.mistaken_topic(),
            _ => None,
        }
    }

    fn asks_closures(&self) -> bool {
        match self {
            Self::Closure(_) => true,
            Self::And(a, b) | Self::Or(a, b) => a.asks_closures() || b.asks_closures(),
            Self::Not(a) => a.asks_closures(),
            _ => false,
        }
    }

    fn is_typed(&self) -> bool {
        match self {
            Self::Bare(p) | Self::Type(p) | Self::Topic(p) => p.is_exact(),
            Self::And(a, b) => a.is_typed() || b.is_typed(),
            Self::Or(a, b) => a.is_typed() && b.is_typed(),
            _ => false,
        }
    }

    fn clauses(&self) -> Vec<Clause> {
        match self {
            // No event has an empty type or topic.
            Self::Bare(p) | Self::Type(p) | Self::Topic(p) if p.as_str().is_empty() => Vec::new(),
            Self::Bare(p) | Self::Type(p) => {
                vec![Clause { event_type: Some(p.as_str().into()), topic: None }]
            }
            Self::Topic(p) => vec![Clause { event_type: None, topic: Some(p.as_str().into()) }],
            Self::Or(a, b) => [a.clauses(), b.clauses()].concat(),
            Self::And(a, b) => Clause::all_and(a.clauses(), b.clauses()),
            _ => vec![Clause::default()],
        }
    }
}

/// Compares JSON values, numbers by value: `1` equals `1.0`.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // As floats only if one is a float: two large integers may be one float.
        (Value::Number(x), Value::Number(y)) if x.is_f64() != y.is_f64() => {
            x.as_f64() == y.as_f64()
        }
        _ => a == b,
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Bare(p) | Self::Type(p) => write!(f, "type {p}"),
            Self::Topic(p) => write!(f, "topic {p}"),
            Self::Source(p) => write!(f, "source {p}"),
            Self::SourcePrefix(p) => write!(f, "source {p}…"),
            Self::HasKey(path) => write!(f, "has {path}"),
            Self::KeyEquals(path, value) => write!(f, "{path} = {value}"),
            Self::And(a, b) => write!(f, "({a} & {b})"),
            Self::Or(a, b) => write!(f, "({a} | {b})"),
            Self::Not(a) => write!(f, "!{a}"),
            Self::Closure(_) => f.write_str("closure"),
        }
    }
}

impl BitAnd for Predicate {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(Node::And(Arc::new(self.0), Arc::new(other.0)))
    }
}

impl BitOr for Predicate {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(Node::Or(Arc::new(self.0), Arc::new(other.0)))
    }
}

impl Not for Predicate {
    type Output = Self;
    fn not(self) -> Self {
        Self(Node::Not(Arc::new(self.0)))
    }
}

impl From<&str> for Predicate {
    /// A bare text is a pattern over types.
    fn from(text: &str) -> Self {
        Self(Node::Bare(Pattern::new(text)))
    }
}

impl<F: Fn(&Event) -> bool + Send + Sync + 'static> From<F> for Predicate {
    fn from(f: F) -> Self {
        Self(Node::Closure(Arc::new(f)))
    }
}
