//! The contract of a backend: how events travel, and what it can guarantee.

use crate::{
    clock::Timestamp,
    delivery::{End, Try},
    error::{Error, ErrorKind, Result},
    event::Event,
    predicate::{Filter, Interest},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};

/// How events travel. Cheap to share; every method may be called from many tasks at once.
///
/// After `close` every method returns a `Closed` error, `close` itself `Ok`.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Returns what this backend guarantees.
    fn capability(&self) -> &Capability;

    /// Stores or sends the batch and returns one result an event, in order.
    ///
    /// `Ok` means that the backend has confirmed it. Whether the batch is atomic is
    /// [`Capability::batch`]. Not cancelled: it runs to its end even if the caller is dropped.
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>>;

    /// Opens a source of events; what the backend can't do is refused here.
    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>>;

    /// Tells whether the backend answers, within its own timeout.
    async fn ping(&self) -> Result<()>;

    /// Ends every source, flushes and lets go within `deadline`. May be called again.
    async fn close(&self, deadline: Duration) -> Result<()>;

    /// Returns what is kept beyond the events, if anything is: groups and dead letters.
    fn keeper(&self) -> Option<&dyn Keeper> {
        None
    }

    /// Returns the accounts of an app's runs, if the backend can keep them.
    fn accounts(&self) -> Option<&dyn Accounts> {
        None
    }
}

/// An open subscription on a backend.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Waits until there is an event and leases up to `max`; empty only after `stop`.
    ///
    /// Each lease lasts as long as the subscription asked. The engine never cancels it.
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>>;

    /// Settles deliveries and returns one result each; `Stale` if the lease was lost.
    ///
    /// A source that must write the event again, be it as a dead letter or to hold it back, keeps
    /// what it leased until it is settled or the lease has run out.
    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>>;

    /// Makes `fetch` return at once and from then on; what is leased can still be settled.
    fn stop(&self);

    /// Lets go of the subscription; unsettled leases run out.
    async fn close(&self) -> Result<()>;
}

/// What a durable backend keeps beyond the events.
#[async_trait]
pub trait Keeper: Send + Sync {
    /// Returns the groups, by name.
    async fn groups(&self) -> Result<Vec<GroupInfo>>;

    /// Forgets a group: its interest, its place and its unsettled events.
    async fn prune(&self, group: &str) -> Result<()>;

    /// Lets the group see again all retained events from `start` on; tells how many.
    async fn replay(&self, group: &str, start: Start) -> Result<u64>;

    /// Returns the dead letters that `filter` takes, oldest first.
    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>>;

    /// Hands dead letters back to the subscription they failed in, under their own id, attempts
    /// counted anew, each in one transaction: calling it again finds nothing left to do.
    async fn redrive(&self, ids: &[LetterId]) -> Result<u64>;

    /// Deletes dead letters for ever; tells how many.
    async fn purge(&self, ids: &[LetterId]) -> Result<u64>;
}

/// What `railbus run` must know of a store to account for every event.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Begins a run.
    async fn begin(&self) -> Result<RunMark>;

    /// Returns how far an input was stored.
    async fn position(&self, input: &str) -> Result<Option<Position>>;

    /// Counts the outcomes of the run's events so far, as seen by these groups.
    async fn tally(&self, run: RunMark, groups: &[(String, Interest)]) -> Result<Tally>;

    /// Tells whether one of these groups has an event that is not settled.
    async fn is_idle(&self, groups: &[(String, Interest)]) -> Result<bool>;

    /// Returns when anything in the store may have changed. May return too early.
    async fn changed(&self);
}

/// An event on its way out.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The event.
    pub event: Event,
    /// The input position that is stored with it, atomically; see [`Capability::positions`].
    pub position: Option<Advance>,
    /// Set if it never became an event: stored as a dead letter for this reason at once.
    pub rejected: Option<String>,
    /// The run that publishes it.
    pub run: Option<RunMark>,
}

impl From<Event> for Outgoing {
    fn from(event: Event) -> Self {
        Self { event, position: None, rejected: None, run: None }
    }
}

/// How far an input was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The offset behind what was read, in the input's own unit.
    pub offset: u64,
    /// A fingerprint of everything before the offset.
    pub fingerprint: u64,
}

/// A step of an input from one position to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The name of the input.
    pub input: Arc<str>,
    /// The offset this step starts from: if the stored one differs, nothing is published and the
    /// error is `Stale`.
    pub from: u64,
    /// The position after it.
    pub to: Position,
}

/// What a subscription asks of a backend.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The group; none for a broadcast.
    pub group: Option<String>,
    /// The types and topics that this member can handle.
    pub interest: Interest,
    /// Where a group that is new starts.
    pub start: Start,
    /// How long an event is this member's before it is given to another.
    pub lease: Duration,
}

/// Where a new group starts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Start {
    /// At the oldest event retained.
    #[default]
    Oldest,
    /// After the newest event.
    Newest,
    /// At the first event published at this time or later.
    At(Timestamp),
}

/// A leased event, as plain data.
#[derive(Debug)]
pub struct Leased {
    /// What settles it.
    pub receipt: Receipt,
    /// The event, or the bytes that are none.
    pub event: Result<Event, Undecodable>,
    /// How often it was delivered or tried, this time included.
    pub attempt: u32,
    /// The names of the group's subscriptions that are through with it.
    pub finished: Vec<String>,
    /// Set if it is one subscription's alone: it was handed back from that one's dead letters.
    pub only: Option<String>,
}

/// Stored bytes that are not an event.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// The bytes.
    pub raw: Bytes,
    /// Why they are not an event.
    pub error: Error,
}

/// What settles a lease: the event's place in the source's own terms, and which lease of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The place.
    pub place: u64,
    /// Counts the leases of the event, so that an older one is refused.
    pub fence: u64,
    /// A backend's own text, where numbers don't do.
    pub token: Option<Arc<str>>,
}

/// What becomes of a lease, and what its subscriptions came to.
#[derive(Clone, Debug)]
pub struct Settle {
    /// The lease.
    pub receipt: Receipt,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The subscriptions that got through with it since the last settle, and how.
    pub ended: Vec<(String, End)>,
    /// The tries that failed since the last settle.
    pub failed: Vec<Try>,
    /// Whether anything in it was tried more than once, be it a step within a run.
    pub retried: bool,
}

impl Settle {
    /// Settles `receipt` with `verdict`, with nothing to tell of subscriptions.
    #[must_use]
    pub fn new(receipt: Receipt, verdict: Verdict) -> Self {
        Self { receipt, verdict, ended: Vec::new(), failed: Vec::new(), retried: false }
    }
}

/// What becomes of a lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The group is through with the event.
    Ack,
    /// The event comes again, not before the delay.
    Nack {
        /// How long it is held back.
        delay: Duration,
    },
    /// The lease starts anew; `tries` more were made in place.
    Extend {
        /// Tries in place since the last settle.
        tries: u32,
    },
    /// The event was not started, and comes again as if it had not been delivered where
    /// [`Capability::release`] is free; not before the delay, so that a member that can't handle it
    /// does not take it up in a loop.
    Release {
        /// How long it is held back.
        delay: Duration,
    },
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
    /// At most so many, oldest first.
    pub limit: Option<u64>,
}

/// The beginning of a run in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMark {
    /// The run's number.
    pub run: i64,
    /// The newest event at its beginning.
    pub newest: i64,
}

/// What became of a run's events: distinct ids, each by its worst outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Published by this run, or by anyone who is not a run, since it began.
    pub published: u64,
    /// Unsettled when it began.
    pub carried: u64,
    /// Delivered to a member at least once.
    pub delivered: u64,
    /// Handled.
    pub succeeded: u64,
    /// Ended without success and without a dead letter.
    pub failed: u64,
    /// Kept as dead letters.
    pub dead_lettered: u64,
    /// Wanted by no subscription.
    pub unmatched: u64,
    /// Tried more than once.
    pub retried: u64,
}

/// What a backend guarantees: stated once, shown by `backends`, tested by the conformance suite.
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
    /// Whether deliveries are counted across members and crashes.
    pub counts_attempts: bool,
    /// How a settlement of a lost lease is recognised.
    pub fencing: Fencing,
    /// The shortest lease; none if there are no leases.
    pub lease_min: Option<Duration>,
    /// The longest an event may be held, extensions included; none if there is no bound.
    pub lease_max: Option<Duration>,
    /// The longest a nack or a release may hold an event back; none if not at all.
    pub delay_max: Option<Duration>,
    /// The longest an event may be held back when it is published; none if not at all.
    pub publish_delay_max: Option<Duration>,
    /// What delays are rounded up to.
    pub delay_step: Duration,
    /// What of a group's past can be seen again.
    pub replay: Replay,
    /// Whether dead letters are kept.
    pub dead_letters: bool,
    /// Whether it is kept which subscriptions of a group are through with an event.
    pub keeps_finished: bool,
    /// Whether the failed tries of earlier deliveries are kept for a dead letter's history.
    pub keeps_history: bool,
    /// Whether giving back an event that was not started counts as an attempt.
    pub release: Release,
    /// What happens to a batch that fails in part.
    pub batch: Batch,
    /// Whether input positions are stored with the events, atomically.
    pub positions: bool,
    /// Whether events survive the process.
    pub durable: bool,
    /// The largest event on the wire, in bytes.
    pub payload_max: usize,
    /// The largest batch of one publish.
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
            counts_attempts: false,
            fencing: Fencing::None,
            lease_min: None,
            lease_max: None,
            delay_max: None,
            publish_delay_max: None,
            delay_step: Duration::from_millis(1),
            replay: Replay::None,
            dead_letters: false,
            keeps_finished: false,
            keeps_history: false,
            release: Release::Free,
            batch: Batch::BestEffort,
            positions: false,
            durable: false,
            payload_max: usize::MAX,
            batch_max: usize::MAX,
        }
    }

    /// Builds the error for something this backend can't do, naming those that can.
    #[must_use]
    pub fn refuse(&self, what: &str, able: &[&str]) -> Error {
        let why = format!("{} {what}", self.name);
        let error = Error::new(ErrorKind::Unsupported, "subscribe", why);
        match able {
            [] => error,
            able => error.hint(format!("use a backend that does: {}", able.join(", "))),
        }
    }
}

/// How a backend delivers to subscriptions without a group.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// None.
    None,
    /// As published, among events of one key.
    PerKey,
    /// As published, by each publisher.
    PerPublisher,
    /// As confirmed, over all publishers.
    Total,
}

/// How it is noticed that a lease was lost to another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fencing {
    /// The store checks each settlement.
    Checked,
    /// The source refuses once its own clock says that the lease has run out.
    Deadline,
    /// There are no leases.
    None,
}

/// What of its past a group can see again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    None,
    /// Everything retained, from a time on.
    Time,
}

/// What giving back an unstarted event costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing.
    Free,
    /// One of its attempts.
    CountsAsAttempt,
}

/// What becomes of a batch of which a part fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Each event has its own fate.
    BestEffort,
    /// All or nothing.
    Atomic,
}

/// An interest, compiled once and shared by a source.
pub type SharedFilter = Arc<Filter>;
