//! Events between the engine and a backend: on their way out, leased, and settled.

use crate::{
    accounts::{Advance, RunMark},
    clock::Timestamp,
    delivery::{End, Try},
    error::{Error, Result},
    event::Event,
    predicate::{Filter, Interest},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// An event on its way out.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, backend::Outgoing};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let line = Outgoing::from(Event::new("line").payload("{"));
/// let broken = Outgoing { rejected: Some("not JSON".into()), ..line };
/// let results = bus.publish_all(&[Event::new("tick").payload(1).into(), broken]).await;
/// assert!(results.iter().all(Result::is_ok));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The event.
    pub event: Event,
    /// The input position that is stored with it, atomically; see [`Capability::positions`](crate::capability::Capability::positions).
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
    /// Which events may be leased at the same time.
    pub order: Order,
}

/// Which events of a group may be leased at the same time.
///
/// # Examples
/// ```
/// use railbus::{Event, backend::{Backend, Order, Subscribe}};
/// use railbus::{backends::memory::Memory, predicate::Interest};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let memory = Memory::default();
/// let source = memory.subscribe(Subscribe {
///     group: Some("billing".into()),
///     interest: Interest::all(),
///     start: Default::default(),
///     lease: Duration::from_secs(30),
///     order: Order::ByKey,
/// }).await?;
/// for id in ["e-1", "e-2"] {
///     let event = Event::new("order.placed").id(id).key("order-7").payload(1);
///     memory.publish(&[event.into()]).await;
/// }
/// assert_eq!(source.fetch(10).await?.len(), 1, "the second is held by the first");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Any.
    #[default]
    Any,
    /// One of each key, whoever leases it: the earliest that the group has not settled. One that
    /// comes again holds its key until it is settled; one that was published with a delay holds it
    /// once it is first leased. Events without a key are not held.
    ///
    /// A group that was asked for it stays so until it is pruned, so that a member that doesn't
    /// ask, such as an older version of the program, does not break the order of the others. Asked
    /// only where [`Capability::keyed`](crate::capability::Capability::keyed) says so.
    ByKey,
}

/// Where a new group starts.
#[non_exhaustive]
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
///
/// # Examples
/// ```
/// use railbus::{
///     ErrorKind, Event,
///     backend::{
///         Backend, Leased, Order, Receipt, Settle, SharedFilter, Start, Subscribe, Undecodable, Verdict,
///     },
///     backends::memory::Memory, predicate::Interest,
/// };
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let memory = Memory::default();
/// let source = memory.subscribe(Subscribe {
///     group: Some("billing".into()),
///     interest: Interest::all(),
///     start: Start::default(),
///     lease: Duration::from_secs(30),
///     order: Order::Any,
/// }).await?;
/// memory.publish(&[Event::new("order.placed").payload(7).into()]).await;
///
/// let leased: Vec<Leased> = source.fetch(10).await?;
/// let event: &Result<Event, Undecodable> = &leased[0].event;
/// assert_eq!((event.as_ref().unwrap().payload::<u32>()?, leased[0].attempt), (7, 1));
///
/// let receipt: Receipt = leased[0].receipt.clone();
/// assert!(source.settle(&[Settle::new(receipt.clone(), Verdict::Ack)]).await[0].is_ok());
/// let again = source.settle(&[Settle::new(receipt, Verdict::Ack)]).await.remove(0);
/// assert_eq!(again.unwrap_err().kind(), ErrorKind::Stale);
///
/// let filter: SharedFilter = Interest::all().compile().into();
/// assert!(filter.matches("order.placed", "shop"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Leased {
    /// What settles it.
    pub receipt: Receipt,
    /// The event, or the bytes that are none.
    pub event: Result<Event, Undecodable>,
    /// How often it was delivered or tried, this time included.
    pub attempt: u32,
    /// Whether the lease before this one ran out unsettled, so that a process may have died of it;
    /// true for a redelivery where that is not known.
    pub lost: bool,
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
    /// The subscriptions that got through with it since the last settle, and how. An
    /// [`Verdict::Ack`] without any says that all were done.
    pub ended: Vec<(Arc<str>, End)>,
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
#[non_exhaustive]
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
    /// [`Capability::release`](crate::capability::Capability::release) is free; not before the delay, so that a member that can't handle it
    /// does not take it up in a loop.
    Release {
        /// How long it is held back.
        delay: Duration,
    },
}

/// An interest, compiled once and shared by a source.
pub type SharedFilter = Arc<Filter>;
