//! A subscription in the hands of the user.

use super::open::Bus;
use crate::{clock::Timestamp, consumer::Entry, predicate::Predicate};
use std::{fmt, sync::Arc};

/// What a subscription is known by: a number that its bus gives to no other, from 1.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, SubscriptionId};
///
/// let bus = Bus::new();
/// let id: SubscriptionId = bus.on("tick").run(|_: &Event| {}).now()?.id();
/// assert!(bus.unsubscribe(id) && !bus.unsubscribe(id));
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(pub(super) u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A subscription that is open; dropping this does not cancel it, [`Subscription::guard`] does.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event};
///
/// let bus = Bus::new();
/// let subscription = bus.on("order.*").named("log").run(|_: &Event| {}).now()?;
/// assert_eq!((subscription.name(), subscription.id().to_string()), ("log", "1".into()));
/// assert_eq!((subscription.topic(), subscription.pattern()), (None, Some("order.*")));
/// assert_eq!((subscription.group(), subscription.predicate().is_typed()), (None, false));
/// println!("since {}: {}", subscription.created_at(), subscription.explain());
/// subscription.cancel();
/// assert_eq!(bus.emit(Event::new("order.placed"))?.matched, 0);
/// assert!(!bus.unsubscribe(subscription.id()), "it was cancelled before");
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone)]
pub struct Subscription {
    pub(super) entry: Arc<Entry>,
    pub(super) bus: Bus,
}

impl Subscription {
    /// Returns its id.
    #[must_use]
    pub fn id(&self) -> SubscriptionId {
        SubscriptionId(self.entry.number)
    }

    /// Returns its name: the one given, else one made for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Returns which events it wants.
    #[must_use]
    pub fn predicate(&self) -> &Predicate {
        &self.entry.predicate
    }

    /// Returns the topic it wants, if it wants exactly one and asks for nothing else.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.entry.predicate.as_topic().filter(|p| p.is_exact()).map(|p| p.as_str())
    }

    /// Returns the pattern over topics, or over types, that it wants, if it asks for nothing else.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        let predicate = &self.entry.predicate;
        let pattern = predicate.as_topic().or_else(|| predicate.as_type());
        pattern.filter(|p| !p.is_exact()).map(|p| p.as_str())
    }

    /// Returns the group that shares its events; none for a broadcast.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.entry.group.as_deref()
    }

    /// Returns when it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.entry.created_at
    }

    /// Cancels it: from here on it is not called, not even by a dispatch under way. Cancelling
    /// again does nothing, and cancelling inside its own handler is fine.
    pub fn cancel(&self) {
        self.bus.unsubscribe(self.id());
    }

    /// Turns it into one that is cancelled when it is dropped.
    #[must_use = "a guard that is dropped at once cancels at once"]
    pub fn guard(self) -> Guard {
        Guard(self)
    }

    /// Explains what it does: what the backend is asked for, and what follows when it fails.
    #[must_use]
    pub fn explain(&self) -> Explanation<'_> {
        Explanation(&self.entry)
    }
}

/// A subscription that is cancelled when this is dropped.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, bus::Guard};
///
/// let bus = Bus::new();
/// {
///     let _guard: Guard = bus.on("tick").run(|_: &Event| {}).now()?.guard();
///     assert_eq!(bus.emit(Event::new("tick"))?.matched, 1);
/// }
/// assert_eq!(bus.emit(Event::new("tick"))?.matched, 0);
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Debug)]
pub struct Guard(Subscription);

impl std::ops::Deref for Guard {
    type Target = Subscription;

    fn deref(&self) -> &Subscription {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// What a subscription does, to be displayed.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Retry, bus::Explanation, topic};
///
/// let bus = Bus::new();
/// let on = bus.on(topic("shop")).named("log").retry(Retry::attempts(2));
/// let subscription = on.run(|_: &Event| {}).now()?;
/// let explained: Explanation<'_> = subscription.explain();
/// let lines = [
///     "log: topic shop",
///     "  asked of the backend: topic shop",
///     "  broadcast: live, at most once",
///     "  try 1, after 500ms try 2, then Drop",
/// ];
/// assert_eq!(explained.to_string(), lines.join("\n"));
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Debug)]
pub struct Explanation<'a>(&'a Entry);

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.0;
        writeln!(f, "{}: {}", entry.name, entry.predicate)?;
        writeln!(f, "  asked of the backend: {}", entry.predicate.interest())?;
        match &entry.group {
            Some(group) => writeln!(f, "  group {group}: stored, at least once")?,
            None => writeln!(f, "  broadcast: live, at most once")?,
        }
        let retry = &entry.policy.retry;
        write!(f, "  try 1")?;
        for attempt in 1..retry.max_attempts().min(8) {
            if let Some(wait) = retry.wait_after(attempt) {
                write!(f, ", after {wait:?} try {}", attempt + 1)?;
            }
        }
        if retry.max_attempts() > 8 {
            write!(f, ", … up to try {}", retry.max_attempts())?;
        }
        write!(f, ", then {:?}", entry.policy.then)
    }
}

impl Bus {
    /// Cancels the subscription with that id; tells whether there was one.
    pub fn unsubscribe(&self, id: SubscriptionId) -> bool {
        let Some(entry) = self.0.table.remove(id.0) else { return false };
        let first = entry.cancel();
        if let (Some(group), Some(runtime)) = (entry.group.clone(), self.0.runtime.get()) {
            let bus = self.clone();
            runtime.spawn(async move { bus.narrow(&group).await });
        }
        first
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({}, {:?})", self.id(), self.entry)
    }
}
