//! The accounts of an app's runs: what became of every event.

use crate::{error::Result, predicate::Interest};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What `railbus run` must know of a store to account for every event.
///
/// # Examples
/// ```
/// use railbus::backend::{Accounts, Position, RunMark, Tally};
///
/// /// Tells how a run stands: what became of its events, and how far its input was read.
/// async fn told(accounts: &dyn Accounts, run: RunMark) -> railbus::Result<(Tally, u64)> {
///     let position: Option<Position> = accounts.position("orders.ndjson").await?;
///     Ok((accounts.tally(run).await?, position.map_or(0, |p| p.offset)))
/// }
/// # Ok::<(), railbus::Error>(())
/// ```
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Begins a run of an app with these groups.
    async fn begin(&self, groups: &[(String, Interest)]) -> Result<RunMark>;

    /// Ends a run: its counts need not be kept any longer.
    async fn end(&self, run: RunMark) -> Result<()>;

    /// Returns how far an input was stored.
    async fn position(&self, input: &str) -> Result<Option<Position>>;

    /// Counts the outcomes of the run's events so far, as seen by its groups.
    async fn tally(&self, run: RunMark) -> Result<Tally>;

    /// Tells whether one of these groups has an event that is not settled.
    async fn is_idle(&self, groups: &[(String, Interest)]) -> Result<bool>;

    /// Returns when anything in the store may have changed. May return too early.
    async fn changed(&self);
}

/// The beginning of a run in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMark {
    /// The run's number.
    pub run: i64,
}

/// What became of a run's events: distinct ids, each by its worst outcome.
///
/// # Examples
/// ```
/// use railbus::backend::Tally;
///
/// let one = Tally { published: 1, succeeded: 1, ..Tally::default() };
/// let all = one + Tally { published: 1, dead_lettered: 1, ..Tally::default() };
/// assert_eq!((all.published, all.succeeded, all.dead_lettered), (2, 1, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Tried more than once, be it that the first try was an earlier run's; tries before a redrive that
    /// came between runs don't count.
    pub retried: u64,
}

impl std::ops::Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            published: self.published + other.published,
            carried: self.carried + other.carried,
            delivered: self.delivered + other.delivered,
            succeeded: self.succeeded + other.succeeded,
            failed: self.failed + other.failed,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            unmatched: self.unmatched + other.unmatched,
            retried: self.retried + other.retried,
        }
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
///
/// # Examples
/// ```
/// use railbus::{Event, backend::{Advance, Outgoing, Position}};
///
/// let to = Position { offset: 64, fingerprint: 7 };
/// let step = Advance { input: "orders.ndjson".into(), from: 0, to };
/// let line = Outgoing { position: Some(step), ..Event::new("order.placed").payload(1).into() };
/// assert_eq!(line.position.unwrap().to.offset, 64);
/// ```
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
