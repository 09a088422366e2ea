//! What a durable backend keeps beyond the events: groups and dead letters.

use crate::{
    clock::Timestamp, delivery::Try, error::Result, event::Event, predicate::Interest,
    topic::Pattern, transfer::Start,
};
use async_trait::async_trait;
use std::{fmt, sync::Arc};

/// What a durable backend keeps beyond the events.
///
/// # Examples
/// ```
/// use railbus::backend::{GroupInfo, HISTORY_MAX, Letter, LetterFilter, LetterId};
/// use railbus::{Bus, Event, Retry};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let fails = async |_: Event| Err::<(), _>("no card");
/// bus.on("order.placed").group("billing").retry(Retry::attempts(1)).run(fails).await?;
/// bus.publish(Event::new("order.placed").id("e-1")).await?;
/// bus.idle().await?;
///
/// let keeper = bus.keeper()?;
/// let groups: Vec<GroupInfo> = keeper.groups().await?;
/// assert_eq!((&*groups[0].name, groups[0].lag, groups[0].dead_letters), ("billing", 0, 1));
///
/// let wanted = LetterFilter { reason: Some("card".into()), ..LetterFilter::default() };
/// let letters: Vec<Letter> = keeper.letters(&wanted).await?;
/// assert_eq!((&*letters[0].event_id, letters[0].attempts), ("e-1", 1));
/// assert!(letters[0].history.len() <= HISTORY_MAX);
///
/// let id = LetterId::new(letters[0].id.as_str());
/// assert_eq!(keeper.purge(&[id]).await?, 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Returns the groups, by name.
    async fn groups(&self) -> Result<Vec<GroupInfo>>;

    /// Forgets a group: its interest, its place and its unsettled events; one that is not there is
    /// [`NotFound`](crate::error::ErrorKind::NotFound).
    async fn prune(&self, group: &str) -> Result<()>;

    /// Lets the group see again all retained events from `start` on; tells how many.
    ///
    /// What it has not settled stays as it is: whoever holds an event goes on and settles it. A group
    /// that is not there is [`NotFound`](crate::error::ErrorKind::NotFound).
    async fn replay(&self, group: &str, start: Start) -> Result<u64>;

    /// Returns the dead letters that `filter` takes, oldest first.
    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>>;

    /// Hands dead letters back to the subscription they failed in, under their own id, attempts
    /// counted anew, each in one transaction: calling it again finds nothing left to do.
    async fn redrive(&self, ids: &[LetterId]) -> Result<u64>;

    /// Deletes dead letters for ever; tells how many.
    async fn purge(&self, ids: &[LetterId]) -> Result<u64>;
}

/// A group as `groups ls` shows it.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// The union of what its members can handle.
    pub interest: Interest,
    /// Events it has not settled.
    pub lag: u64,
    /// Events a member holds a lease on.
    pub leased: u64,
    /// Its dead letters.
    pub dead_letters: u64,
    /// When a member last fetched.
    pub last_seen: Timestamp,
}

/// The id of a dead letter, in the backend's own terms; as text on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LetterId(Arc<str>);

impl LetterId {
    /// Creates an id from the backend's text.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event that failed for good.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its id.
    pub id: LetterId,
    /// The event's id.
    pub event_id: String,
    /// The event's type.
    pub event_type: String,
    /// The event's topic.
    pub topic: String,
    /// The event; none if the bytes could not be decoded.
    pub event: Option<Event>,
    /// The group it failed in; none for an input's line that never became an event.
    pub group: Option<String>,
    /// The subscription it failed in, or the input.
    pub subscription: String,
    /// Why.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it became a dead letter.
    pub at: Timestamp,
    /// Its failed tries, oldest first, at most [`HISTORY_MAX`].
    pub history: Vec<Try>,
}

/// How many failed tries a history keeps: the latest.
pub const HISTORY_MAX: usize = 20;

/// Which dead letters: those that match every part given.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// This letter only.
    pub id: Option<LetterId>,
    /// Letters of the event with this id.
    pub event_id: Option<String>,
    /// Letters of this group.
    pub group: Option<String>,
    /// Letters of this subscription.
    pub subscription: Option<String>,
    /// Letters whose event's type matches this pattern.
    pub event_type: Option<String>,
    /// Letters whose event's topic matches this pattern.
    pub topic: Option<String>,
    /// Letters whose reason contains this text.
    pub reason: Option<String>,
    /// Letters that became so at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many, oldest first.
    pub limit: Option<u64>,
}

impl LetterFilter {
    /// Tells whether every part given matches; the limit is the caller's.
    ///
    /// # Examples
    /// ```
    /// use railbus::backend::{Letter, LetterFilter};
    ///
    /// /// What a keeper of one's own returns.
    /// fn letters(all: &[Letter], filter: &LetterFilter) -> Vec<Letter> {
    ///     let limit = filter.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
    ///     all.iter().filter(|letter| filter.takes(letter)).take(limit).cloned().collect()
    /// }
    /// assert!(letters(&[], &LetterFilter::default()).is_empty());
    /// ```
    #[must_use]
    pub fn takes(&self, letter: &Letter) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        let matches = |pattern: &Option<String>, name: &str| {
            pattern.as_deref().is_none_or(|text| Pattern::new(text).matches(name))
        };
        self.id.as_ref().is_none_or(|id| *id == letter.id)
            && same(&self.event_id, Some(&letter.event_id))
            && same(&self.group, letter.group.as_deref())
            && same(&self.subscription, Some(&letter.subscription))
            && self.reason.as_ref().is_none_or(|part| letter.reason.contains(part))
            && self.since.is_none_or(|since| letter.at >= since)
            && matches(&self.event_type, &letter.event_type)
            && matches(&self.topic, &letter.topic)
    }
}
