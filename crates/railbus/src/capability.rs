//! What a backend can guarantee, as values.

use crate::error::{Error, ErrorKind};
use std::time::Duration;

/// What a backend guarantees: stated once, shown by `backends`, tested by the conformance suite.
///
/// # Examples
/// ```
/// use railbus::{
///     Bus,
///     backend::{Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay},
/// };
///
/// // What a bus can rely on:
/// let bus = Bus::new();
/// let memory: &Capability = bus.capability();
/// assert_eq!((memory.broadcast, memory.ordering), (Broadcast::Inline, Ordering::Total));
/// assert!(memory.groups && memory.keyed == Keyed::Group && !memory.durable);
///
/// // What a backend of one's own says of itself:
/// const QUEUE: Capability = {
///     let mut queue = Capability::inline("queue");
///     queue.groups = true;
///     queue.fencing = Fencing::Deadline;
///     queue.release = Release::CountsAsAttempt;
///     queue.batch = Batch::BestEffort;
///     queue.replay = Replay::Oldest;
///     queue.patterns = Patterns::Store;
///     queue
/// };
/// let refused = QUEUE.refuse("subscribe", "can't start at a time", &["sqlite"]);
/// assert_eq!(refused.to_string(), "subscribe: queue can't start at a time");
/// assert_eq!(refused.advice(), Some("use a backend that does: sqlite"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Capability {
    /// The backend's name.
    pub name: &'static str,
    /// How subscriptions without a group get events.
    pub broadcast: Broadcast,
    /// Whether groups are kept: stored, leased, redelivered until settled.
    pub groups: bool,
    /// The order in which a group gets events for the first time.
    pub ordering: Ordering,
    /// Over whom a group's events of one key are kept in order, where the group asks for it.
    pub keyed: Keyed,
    /// Whether deliveries are counted across members and crashes. If not, all tries are made in one
    /// delivery, where leases can be extended; else a policy of more than one is refused.
    pub counts_attempts: bool,
    /// How a settlement of a lost lease is recognised.
    pub fencing: Fencing,
    /// The shortest lease; none if there are no leases.
    pub lease_min: Option<Duration>,
    /// Whether a lease can be extended while its event is worked on. If not, time counts from the answer
    /// that brought the event: what waited for its turn until less than a third of the lease is left is
    /// given back, and an async handler is cut off before the lease ends. A sync one can't be: it must
    /// be quicker than that by itself. Every further try is a delivery, and nothing is settled by hand.
    pub extends: bool,
    /// The longest an event may be held, extensions included; none if there is no bound.
    pub lease_max: Option<Duration>,
    /// The longest a nack or a release may hold an event back; none if not at all. A policy whose
    /// waits are longer is refused, a handler that asks for more gets this.
    pub delay_max: Option<Duration>,
    /// The longest an event may be held back when it is published; none if not at all.
    pub publish_delay_max: Option<Duration>,
    /// Whether an event that is held back since it was published can be withdrawn.
    pub withdraws: bool,
    /// What delays are rounded up to.
    pub delay_step: Duration,
    /// For how long an event under the id of one that is there is confirmed, and not stored again;
    /// none if it is always stored again.
    pub dedup: Option<Duration>,
    /// Where patterns over types and topics are matched.
    pub patterns: Patterns,
    /// What of its past a group can see.
    pub replay: Replay,
    /// Whether dead letters are kept.
    pub dead_letters: bool,
    /// Whether it is kept which subscriptions of a group are through with an event.
    pub keeps_finished: bool,
    /// Whether the failed tries of earlier deliveries are kept for a dead letter's history.
    pub keeps_history: bool,
    /// Whether giving back an event that was not started counts as an attempt. If so, what only other
    /// members want is given back less and less often. Where the backend can't hold it back either, the
    /// member keeps it for that while.
    pub release: Release,
    /// What happens to a batch that fails in part.
    pub batch: Batch,
    /// Whether input positions are stored with the events, atomically.
    pub positions: bool,
    /// Whether runs of pipelines are kept, so that they go on where their process died.
    pub journal: bool,
    /// Whether events survive the process.
    pub durable: bool,
    /// The largest payload, in bytes of its JSON text.
    pub payload_max: usize,
    /// The most metadata, in entries of one event.
    pub metadata_max: usize,
    /// The largest batch of one publish; 1 where there is [`Batch::None`].
    pub batch_max: usize,
}

impl Capability {
    /// The least a backend can be: broadcast inside the process, nothing kept.
    #[must_use]
    pub const fn inline(name: &'static str) -> Self {
        Self {
            name,
            broadcast: Broadcast::Inline,
            groups: false,
            ordering: Ordering::Total,
            keyed: Keyed::None,
            counts_attempts: false,
            fencing: Fencing::None,
            lease_min: None,
            extends: false,
            lease_max: None,
            delay_max: None,
            publish_delay_max: None,
            withdraws: false,
            delay_step: Duration::from_millis(1),
            dedup: None,
            patterns: Patterns::Client,
            replay: Replay::None,
            dead_letters: false,
            keeps_finished: false,
            keeps_history: false,
            release: Release::Free,
            batch: Batch::BestEffort,
            positions: false,
            journal: false,
            durable: false,
            payload_max: usize::MAX,
            metadata_max: usize::MAX,
            batch_max: usize::MAX,
        }
    }

    /// Builds the error for something this backend can't do, naming those that can.
    #[must_use]
    pub fn refuse(&self, operation: &'static str, what: &str, able: &[&str]) -> Error {
        let why = format!("{} {what}", self.name);
        let error = Error::new(ErrorKind::Unsupported, operation, why);
        match able {
            [] => error,
            able => error.hint(format!("use a backend that does: {}", able.join(", "))),
        }
    }
}

/// How a backend delivers to subscriptions without a group.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// Inside publish, in this process only.
    Inline,
    /// To every bus that is open, live, at most once.
    Live,
    /// Not at all.
    None,
}

/// The order of first deliveries.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// None.
    None,
    /// As published, among events of one key.
    PerKey,
    /// As published, by each publisher.
    PerPublisher,
    /// As confirmed, over all publishers, in a group whose members all want the same and stay: what one
    /// member leaves to the others, or has on its way when it stops, comes to them late.
    Alike,
    /// As confirmed, over all publishers.
    Total,
}

/// Over whom events of one key are kept in order: the next one is delivered when the one before is
/// settled, however often that one fails.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyed {
    /// Nobody: a group that asks for it is refused.
    None,
    /// All members of the group, in whichever process they are.
    Group,
}

/// How it is noticed that a lease was lost to another member.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// The store checks each settlement.
    Checked,
    /// The source refuses once its own clock says that the lease has run out.
    Deadline,
    /// There are no leases.
    None,
}

/// Where patterns are matched; what they mean is the same everywhere.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patterns {
    /// Nowhere: a subscription names a type or a topic in full, or takes everything.
    None,
    /// Where the subscription is: what it does not want travels, too.
    Client,
    /// In the store: only what is wanted travels.
    Store,
}

/// What of its past a group can see; each includes what stands before it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing: a group that is new starts with what is published then.
    None,
    /// Everything retained, when the group is new.
    Oldest,
    /// Everything retained from a time on, when it is new and whenever it is replayed.
    Time,
}

/// What giving back an unstarted event costs.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing.
    Free,
    /// One of its attempts.
    CountsAsAttempt,
}

/// What becomes of a batch of which a part fails.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// There are none: each event is a call of its own.
    None,
    /// Each event has its own fate.
    BestEffort,
    /// All or nothing.
    Atomic,
}
