//! What was seen on a bus, and what a test says of it.

use crate::{event::Event, topic::Pattern};
use std::{fmt, slice, sync::Arc};

/// What was seen of an event.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was published on the bus.
    Published,
    /// A handler was called for it.
    Delivered,
    /// The handler succeeded.
    Succeeded,
    /// The handler failed, panicked, or asked for another try.
    Failed,
    /// It became a dead letter.
    Dead,
}

/// One thing that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it was.
    pub what: What,
    /// Of which event.
    pub event: Event,
    /// At which subscription, by its name, else its group's, else what it wants; empty for what was
    /// published.
    pub subscription: String,
    /// At which try, from 1; 0 for what was published.
    pub attempt: u32,
    /// Why, if it failed.
    pub reason: Option<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = (self.event.event_type(), self.event.id());
        let what = match self.what {
            What::Published => return write!(f, "published {kind} {id}"),
            What::Delivered => "delivered",
            What::Succeeded => "succeeded",
            What::Failed => "failed   ",
            What::Dead => "dead     ",
        };
        write!(f, "{what} {kind} {id} at {}, try {}", self.subscription, self.attempt)?;
        match &self.reason {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// Some of what was seen, by [`Watch`](super::Watch); what is asserted of it says what came instead.
///
/// # Examples
/// ```
/// use railbus::{Event, testing::{self, Records, Seen, What}};
///
/// #[railbus::test]
/// async fn an_order_is_billed() -> railbus::Result<()> {
///     let bus = testing::bus().await?;
///     let seen = testing::watch(&bus);
///     bus.on("order.*").named("billing").run(|_: &Event| Err::<(), _>("no money")).await?;
///     bus.publish(Event::new("order.placed").id("o-1")).await?;
///     let published: Records = seen.published();
///     published.assert_types(&["order.placed", "handler.error"]);
///     seen.delivered().of("order.*").to("billing").assert_count(1);
///     seen.succeeded().assert_none();
///     let failed: Seen = seen.failed().one();
///     assert_eq!((failed.what, failed.reason.as_deref()), (What::Failed, Some("no money")));
///     assert_eq!((failed.event.id(), failed.attempt, published.count()), ("o-1", 1, 2));
///     assert!(!published.is_empty() && published.iter().all(|seen| seen.attempt == 0));
///     assert_eq!(published.events().len(), published.types().len());
///     Ok(())
/// }
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Records {
    // What they are, as a sentence says it.
    which: String,
    these: Vec<Seen>,
    all: Arc<Vec<Seen>>,
}

impl Records {
    pub(super) fn of_what(what: What, all: Vec<Seen>) -> Self {
        let which = format!("{what:?}").to_lowercase();
        let these = all.iter().filter(|seen| seen.what == what).cloned().collect();
        Self { which, these, all: Arc::new(all) }
    }

    /// Leaves out what is not of this type, a pattern such as `order.*`.
    #[must_use]
    pub fn of(mut self, event_type: &str) -> Self {
        let pattern = Pattern::new(event_type);
        self.these.retain(|seen| pattern.matches(seen.event.event_type()));
        self.which += &format!(" of `{event_type}`");
        self
    }

    /// Leaves out what was not at this subscription.
    #[must_use]
    pub fn to(mut self, subscription: &str) -> Self {
        self.these.retain(|seen| seen.subscription == subscription);
        self.which += &format!(" at `{subscription}`");
        self
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.these.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.these.is_empty()
    }

    /// Returns the types of the events, in the order they were seen.
    #[must_use]
    pub fn types(&self) -> Vec<String> {
        self.these.iter().map(|seen| seen.event.event_type().to_owned()).collect()
    }

    /// Returns the events, in the order they were seen.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.these.iter().map(|seen| seen.event.clone()).collect()
    }

    /// Returns them one by one.
    pub fn iter(&self) -> slice::Iter<'_, Seen> {
        self.these.iter()
    }

    /// Asserts that there are so many.
    ///
    /// # Panics
    /// Panics if there are not, and says what there is.
    #[track_caller]
    pub fn assert_count(&self, count: usize) {
        assert!(self.count() == count, "{}", self.instead(&format!("{count} {}", self.which)));
    }

    /// Asserts that there are none.
    ///
    /// # Panics
    /// Panics if there are, and says which.
    #[track_caller]
    pub fn assert_none(&self) {
        assert!(self.is_empty(), "{}", self.instead(&format!("nothing {}", self.which)));
    }

    /// Asserts that they are of these types, in this order.
    ///
    /// # Panics
    /// Panics if they are not, and says what they are.
    #[track_caller]
    pub fn assert_types(&self, types: &[&str]) {
        let wanted = format!("{} [{}]", self.which, types.join(", "));
        assert!(self.types() == types, "{}", self.instead(&wanted));
    }

    /// Returns the one that there is.
    ///
    /// # Panics
    /// Panics if there is none or more than one, and says what there is.
    #[must_use]
    #[track_caller]
    pub fn one(&self) -> Seen {
        match &self.these[..] {
            [one] => one.clone(),
            _ => panic!("{}", self.instead(&format!("one {}", self.which))),
        }
    }

    fn instead(&self, wanted: &str) -> String {
        let these = listed(&self.these);
        let all =
            if self.these.len() == self.all.len() { String::new() } else { listed(&self.all) };
        let came = if these.is_empty() { " nothing".to_owned() } else { these };
        let all = if all.is_empty() { all } else { format!("\nall that was seen:{all}") };
        format!("expected: {wanted}\ncame:{came}{all}")
    }
}

/// Lists what was seen, each on a line of its own.
pub(super) fn listed(all: &[Seen]) -> String {
    all.iter().map(|seen| format!("\n  {seen}")).collect()
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({}:{})", self.which, listed(&self.these))
    }
}
