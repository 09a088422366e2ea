//! The contract: what a backend must do to keep runs.

use super::{
    record::{Record, Recorded, RunError},
    run::{Begun, Journaled, NewRun, RunEnd, RunFilter, RunInfo, RunLease, RunState, Told},
};
use crate::error::Result;
use async_trait::async_trait;
use std::{fmt, future::pending, time::Duration};

/// How many records [`Journal::load`] asks for at a time.
const PAGE: usize = 1000;

/// The journal of a backend: runs of pipelines, each with what its steps came to.
///
/// A run has the id that whoever begins it chose, and is one however often that id is begun. Whoever
/// runs it holds a lease, whose fence outdates all earlier ones: what comes from a holder that lost
/// its lease is refused as [`Stale`](crate::ErrorKind::Stale). A lease that ran out but that nobody
/// took over still counts, and is renewed by the next record.
///
/// What `Ok` confirms survives the process, and power loss as far as what is published does. Every
/// method is one atomic step, but [`Journal::prune`] and [`Journal::load`]; all are done even if the
/// caller stops waiting, so that none is cancel safe where that matters: ask again. After the bus
/// is closed each is a `Closed` error.
///
/// # Examples
/// ```
/// use railbus::backend::{
///     Begun, Journal, Journaled, NewRun, Record, Recorded, RecordStatus, RunEnd, RunError, RunFilter,
///     RunInfo, RunLease, RunState, Told, Went,
/// };
/// use railbus::{Result, store};
/// use std::time::Duration;
///
/// /// Runs a pipeline of one step, and that step once, however often it is called for an order.
/// async fn ship(journal: &dyn Journal, order: String) -> Result<()> {
///     let mut run = NewRun::new(format!("ship-{order}"), "shipping", "label");
///     (run.input, run.owner) = (store! { "order" => order.clone() }, "host-1/4711".into());
///     run.lease = Duration::from_secs(30);
///     let lease: RunLease = match journal.begin(&run).await? {
///         Begun::New(lease) | Begun::Resumed(lease) => lease,
///         Begun::Elsewhere(run) => return Ok(println!("{} is at it", run.owner)),
///         Begun::Finished(run) => return Ok(println!("it is over: {}", run.state)),
///         Begun::OtherShape { shape, .. } => return Ok(println!("it was begun as {shape}")),
///         _ => return Ok(()),
///     };
///     let Some(Journaled { records, .. }) = journal.load(&run.id).await? else { return Ok(()) };
///     if !records.iter().any(|done: &Recorded| done.record.path == "label") {
///         let mut label = Record::new("label", 1);
///         label.values.set("label", format!("to the customer of {order}"));
///         (label.status, label.went) = (RecordStatus::Success, Went::Next);
///         if journal.record(&lease, &[label]).await? == Told::Cancel {
///             let why = RunError::new("cancelled", "someone asked for it");
///             return journal.end(&lease, RunEnd::Cancelled, Some(why)).await;
///         }
///     }
///     journal.end(&lease, RunEnd::Success, None).await
/// }
///
/// /// Lists what was left behind, and deletes what ended a month ago.
/// async fn tidy(journal: &dyn Journal) -> Result<u64> {
///     let left = RunFilter { states: vec!["left".parse()?], ..RunFilter::default() };
///     let left: Vec<RunInfo> = journal.list(&left).await?;
///     left.iter().for_each(|run| println!("{} waits to go on", run.id));
///     journal.prune(&RunFilter::default(), Duration::from_secs(30 * 86_400)).await
/// }
///
/// assert_eq!(RunState::Ended(RunEnd::Success).name(), "success");
/// assert_eq!(RecordStatus::Decision.name(), "decision");
/// # Ok::<(), railbus::Error>(())
/// ```
#[async_trait]
pub trait Journal: Send + Sync + fmt::Debug + 'static {
    /// Begins a run, or takes over one that was left: one whose lease ran out or was given back.
    ///
    /// Of any number of callers, in any number of processes, one gets the lease.
    ///
    /// # Errors
    /// Refuses an id, a pipeline's name or an owner that is empty or over
    /// [`NAME_MAX`](crate::topic::NAME_MAX) bytes, an input that can't be encoded, and one or a
    /// shape over [`Capability::payload_max`](crate::backend::Capability::payload_max).
    async fn begin(&self, run: &NewRun) -> Result<Begun>;

    /// Records what steps came to, all or none, renews the lease, and tells whether to go on.
    ///
    /// It is confirmed before the next step starts. A place is recorded once: the same record again
    /// is fine and changes nothing, another one for a recorded place is refused.
    ///
    /// # Errors
    /// Returns a stale error if the lease was lost, or the run has ended. Refuses a place of no
    /// name, values that can't be encoded, naming them, and a record over
    /// [`Capability::payload_max`](crate::backend::Capability::payload_max), all it has together.
    async fn record(&self, lease: &RunLease, records: &[Record]) -> Result<Told>;

    /// Renews the lease by its length from now, and tells whether to go on. What power loss forgets
    /// of it, it would have forgotten of the lease anyway.
    ///
    /// # Errors
    /// As [`Journal::record`].
    async fn renew(&self, lease: &RunLease) -> Result<Told>;

    /// Gives the lease back, so that anyone may take the run over at once. Does nothing if the lease
    /// was lost, or the run has ended.
    async fn release(&self, lease: &RunLease) -> Result<()>;

    /// Ends the run. Ending it again in the same way, with the same lease, is fine.
    ///
    /// # Errors
    /// As [`Journal::record`].
    async fn end(&self, lease: &RunLease, how: RunEnd, error: Option<RunError>) -> Result<()>;

    /// Asks for the end of a run, and returns the state before: whoever runs it is told at its next
    /// record or renewal; one that nobody runs ends at once, one that has ended stays as it is.
    ///
    /// # Errors
    /// Returns a not found error if there is none of that id.
    async fn cancel(&self, id: &str) -> Result<RunState>;

    /// Waits until someone may have asked for the end of a run, so that whoever runs it need not wait for
    /// its next record to be told: a hint, after which it renews its lease. By default it never comes.
    ///
    /// # Cancel safety
    /// It is waited for anew after each renewal, and what was asked for meanwhile is not missed.
    async fn nudged(&self, _id: &str) {
        pending::<()>().await;
    }

    /// Returns a run with what it was begun with, without its records.
    async fn find(&self, id: &str) -> Result<Option<Journaled>>;

    /// Returns up to `limit` records of a run behind number `after`, 0 for the first, in the order
    /// of recording; fewer, but one at least, where they are large. None for a run that is not there.
    async fn records(&self, id: &str, after: u64, limit: usize) -> Result<Vec<Recorded>>;

    /// Lists the runs that `filter` takes, newest first.
    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunInfo>>;

    /// Deletes runs that `filter` takes and in which nothing has happened for `older_than`; tells how
    /// many. Without states in the filter it is those that have ended; what is running always stays.
    ///
    /// Each run goes as a whole, but not all at once: what is dropped halfway has deleted some.
    async fn prune(&self, filter: &RunFilter, older_than: Duration) -> Result<u64>;

    /// Returns a run with all its records. Nothing is missed if the caller holds the lease, or the
    /// run has ended.
    async fn load(&self, id: &str) -> Result<Option<Journaled>> {
        let Some(mut run) = self.find(id).await? else { return Ok(None) };
        loop {
            let after = run.records.last().map_or(0, |record| record.number);
            let page = self.records(id, after, PAGE).await?;
            if page.is_empty() {
                return Ok(Some(run));
            }
            run.records.extend(page);
        }
    }
}
