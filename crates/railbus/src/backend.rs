//! The contract of a backend: how events travel, and what it can guarantee.

use crate::error::Result;
use async_trait::async_trait;
use std::{fmt, sync::Arc, time::Duration};

pub use crate::{
    accounts::{Accounts, Advance, Position, RunMark, Tally},
    capability::{Batch, Broadcast, Capability, Fencing, Ordering, Release, Replay},
    keeper::{GroupInfo, HISTORY_MAX, Keeper, Letter, LetterFilter, LetterId},
    transfer::{
        Leased, Outgoing, Receipt, Settle, SharedFilter, Start, Subscribe, Undecodable, Verdict,
    },
};

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

    /// Tells whether events are to be encoded even where they stay in process.
    fn encodes(&self) -> bool {
        false
    }

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

    /// Returns how many events `fetch` has handed out, or none while it has not handed out all that
    /// was published before this call. Asked of broadcasts only.
    async fn handed_out(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Makes `fetch` return at once and from then on; what is leased can still be settled.
    fn stop(&self);

    /// Lets go of the subscription; unsettled leases run out.
    async fn close(&self) -> Result<()>;
}
