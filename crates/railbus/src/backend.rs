//! The contract of a backend: how events travel, and what it can guarantee.

use crate::{
    commons::Commons,
    error::{Error, ErrorKind, Result},
    event::Event,
    predicate::Interest,
};
use async_trait::async_trait;
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};

pub use crate::{
    accounts::{Accounts, Advance, Position, RunMark, Tally},
    capability::{
        Batch, Broadcast, Capability, Fencing, Keyed, Ordering, Patterns, Release, Replay,
    },
    journal::{
        Begun, Journal, Journaled, NewRun, Record, RecordStatus, Recorded, RunEnd, RunError,
        RunFilter, RunInfo, RunLease, RunState, Told, Went,
    },
    keeper::{GroupInfo, HISTORY_MAX, Keeper, Letter, LetterFilter, LetterId},
    transfer::{
        Leased, Order, Outgoing, Receipt, Settle, SharedFilter, Start, Subscribe, Undecodable,
        Verdict,
    },
};

/// How often a backend that can't tell is asked whether groups are through.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How events travel. Cheap to share; every method may be called from many tasks at once.
///
/// After `close` every method returns a `Closed` error, `close` itself `Ok`.
///
/// # Examples
/// ```
/// use railbus::{
///     Bus, Event, Result,
///     backend::{Backend, Capability, Outgoing, Source, Subscribe},
/// };
/// use std::{sync::Arc, time::Duration};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// const PLAIN: Capability = Capability::inline("plain");
///
/// /// Delivers inside publish, and keeps nothing.
/// #[derive(Debug)]
/// struct Plain;
///
/// #[async_trait::async_trait]
/// impl Backend for Plain {
///     fn capability(&self) -> &Capability {
///         &PLAIN
///     }
///
///     async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
///         batch.iter().map(|outgoing| outgoing.event.check()).collect()
///     }
///
///     async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
///         Err(PLAIN.refuse("subscribe", "has no groups", &["memory", "sqlite"]))
///     }
///
///     async fn ping(&self) -> Result<()> {
///         Ok(())
///     }
///
///     async fn close(&self, _: Duration) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// let bus = Bus::over(Arc::new(Plain));
/// bus.on("tick").run(|_: &Event| {}).await?;
/// assert_eq!(bus.publish(Event::new("tick")).await?.matched, 1);
/// assert!(bus.on("tick").group("g").run(|_: &Event| {}).await.is_err());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug + 'static {
    /// Returns what this backend guarantees.
    fn capability(&self) -> &Capability;

    /// Stores or sends the batch and returns one result an event, in order.
    ///
    /// `Ok` means that the backend has confirmed it. Whether the batch is atomic is
    /// [`Capability::batch`]. Not cancelled: it runs to its end even if the caller is dropped.
    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>>;

    /// Takes an event without awaiting, if it can; else it is published by [`Backend::publish`]
    /// (default: never).
    fn publish_now(&self, event: &Event) -> Option<Result<()>> {
        let _ = event;
        None
    }

    /// Tells whether a group may want what is published. Asked where broadcasts are delivered
    /// inside publish: what no group wants need not go by way of the backend (default: yes).
    fn collects(&self) -> bool {
        true
    }

    /// Opens a source of events; what the backend can't do is refused here.
    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>>;

    /// Tells whether events are to be encoded even where they stay in process.
    fn encodes(&self) -> bool {
        false
    }

    /// Tells whether events leave all but topic and payload behind on their way, as in the format
    /// `plain`: then nothing is built on ids, types and metadata, such as replies (default: no).
    fn is_bare(&self) -> bool {
        false
    }

    /// Tells whether events keep their metadata, and which event they were caused by: without these
    /// nobody can answer a request (default: unless they are bare).
    fn keeps_metadata(&self) -> bool {
        !self.is_bare()
    }

    /// Waits until each of these groups has settled all that is of interest beside its name, whoever
    /// holds it, events that are held back included; a group that is not there has.
    ///
    /// Unless a backend can tell by itself, its accounts are asked ten times a second, or where it
    /// has none, whether its groups have anything unsettled at all. Cancel safe.
    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        loop {
            if let Some(accounts) = self.accounts() {
                if accounts.is_idle(groups).await? {
                    return Ok(());
                }
                // A change may come between looking and waiting; looking again bounds that.
                let _ = timeout(LOOK_EVERY, accounts.changed()).await;
                continue;
            }
            let Some(keeper) = self.keeper() else { return Ok(()) };
            let all = keeper.groups().await?;
            let named = |info: &GroupInfo| groups.iter().any(|(name, _)| *name == info.name);
            if all.iter().all(|info| info.lag == 0 || !named(info)) {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Takes back what was published under this id and is held back still, so that nobody gets it;
    /// tells whether there was anything. Once one group or listener may have it, it stays.
    ///
    /// Asked only where [`Capability::withdraws`] says so.
    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        let error = self.capability().refuse("withdraw", "withdraws no events", &[]);
        Err(error.with("event", event_id))
    }

    /// Tells whether the backend answers, within its own timeout.
    async fn ping(&self) -> Result<()>;

    /// Ends every source, flushes and lets go within `deadline`. May be called again.
    async fn close(&self, deadline: Duration) -> Result<()>;

    /// Returns what is kept beyond the events, if anything is: groups and dead letters.
    fn keeper(&self) -> Option<&dyn Keeper> {
        None
    }

    /// Returns the journal of runs, if the backend keeps one. Held by whoever runs a run, it does not
    /// keep the backend open.
    fn journal(&self) -> Option<Arc<dyn Journal>> {
        None
    }

    /// Returns what it lets the members of a fleet have in common, if anything. Held by who uses it, it
    /// does not keep the backend open.
    fn commons(&self) -> Option<Arc<dyn Commons>> {
        None
    }

    /// Returns the accounts of an app's runs, if the backend can keep them.
    fn accounts(&self) -> Option<&dyn Accounts> {
        None
    }
}

/// An open subscription on a backend.
///
/// # Examples
/// ```
/// use railbus::backend::{Settle, Source, Verdict};
///
/// /// Takes all there is until the source is stopped, and settles it unseen.
/// async fn skip(source: &dyn Source) -> railbus::Result<()> {
///     loop {
///         let leased = source.fetch(100).await?;
///         if leased.is_empty() {
///             return source.close().await;
///         }
///         let acks: Vec<_> =
///             leased.into_iter().map(|one| Settle::new(one.receipt, Verdict::Ack)).collect();
///         for settled in source.settle(&acks).await {
///             settled?;
///         }
///     }
/// }
/// # Ok::<(), railbus::Error>(())
/// ```
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

    /// Returns how many events `fetch` has handed out, or none while it has not handed out all that
    /// was published before this call. Asked of broadcasts only.
    ///
    /// # Errors
    /// Unless a source can tell, an unsupported error: then [`Bus::idle`](crate::Bus::idle) returns
    /// it instead of waiting for ever.
    async fn handed_out(&self) -> Result<Option<u64>> {
        let why = "the backend doesn't tell whether all broadcasts are handed out";
        Err(Error::new(ErrorKind::Unsupported, "idle", why)
            .hint("its sources must implement Source::handed_out"))
    }

    /// Waits until the source listens again after events may have been missed, such as by a
    /// reconnect, or after `fetch` has failed; one that happened while nobody waited is told at
    /// once. Asked of broadcasts only, which miss what is published while they can't listen (default:
    /// never). Cancel safe.
    async fn gap(&self) {
        std::future::pending::<()>().await;
    }

    /// Makes `fetch` return at once and from then on; what is leased can still be settled.
    fn stop(&self);

    /// Lets go of the subscription; unsettled leases run out.
    async fn close(&self) -> Result<()>;
}
