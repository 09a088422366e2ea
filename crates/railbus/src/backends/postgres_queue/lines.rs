//! How the database is reached: a few connections, of which another one is made when all are busy.
//!
//! Statements on one connection are worked on one after another, and a commit waits for the disk; so
//! what is published, claimed and settled at the same time goes on several.

use super::settings::Settings;
use crate::{
    backends::postgres::{Link, Session, closed, fault, quote},
    error::{Error, Result, causes},
};
use futures_util::future::{BoxFuture, join_all};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// How many statements that publish are on their way at once: while one waits for the disk, another
/// takes what has come.
pub(super) const PUBLISHERS: usize = 2;

/// How long what looks through all there is may take: the larger the queue, the longer.
const SLOW_WITHIN: Duration = Duration::from_secs(60 * 60);

/// A value of a statement, with its type.
pub(super) type Value<'a> = (&'a (dyn ToSql + Sync), Type);

/// The connections of one open queue.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
    transact: Link,
    // For what takes long, so that nothing else waits behind it.
    slow: Link,
    // Of apps, that were begun here and have not ended.
    runs: Mutex<Vec<i64>>,
    one_at_a_time: tokio::sync::Mutex<()>,
    closed: AtomicBool,
    quoted: String,
    pub(super) shown: String,
}

/// A connection, and how many statements are on their way on it.
#[derive(Debug)]
struct Line {
    link: Link,
    busy: AtomicUsize,
}

/// A statement on its way.
struct Busy<'a>(&'a Line);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

impl Lines {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        let link = || Link::new(Arc::clone(&settings.server));
        let line = |_| Line { link: link(), busy: AtomicUsize::new(0) };
        Arc::new(Self {
            lines: (0..settings.connections.max(1)).map(line).collect(),
            transact: link(),
            slow: link(),
            runs: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
            quoted: quote(&settings.server.schema),
            shown: settings.server.shown.clone(),
        })
    }

    /// Returns the connection that is made first.
    pub(super) fn first(&self) -> &Link {
        self.lines.first().map_or(&self.transact, |line| &line.link)
    }

    /// Takes the first connection on which nothing is on its way, else that with the least.
    fn take(&self) -> Option<Busy<'_>> {
        let idle = self
            .lines
            .iter()
            .find(|line| line.busy.compare_exchange(0, 1, Relaxed, Relaxed).is_ok());
        let line = idle.or_else(|| {
            let least = self.lines.iter().min_by_key(|line| line.busy.load(Relaxed));
            least.inspect(|line| {
                line.busy.fetch_add(1, Relaxed);
            })
        });
        line.map(Busy)
    }

    /// Writes a statement: `@` stands for the schema, as in `SELECT @.tick()`.
    pub(super) fn sql(&self, statement: &str) -> String {
        statement.replace("@.", &format!("{}.", self.quoted))
    }

    /// Runs one statement and returns its rows. If it fails because the connection broke, whether
    /// it was done is not known.
    pub(super) async fn query(
        &self,
        operation: &'static str,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        self.check(operation)?;
        let Some(busy) = self.take() else { return Err(closed(operation)) };
        let session = busy.0.link.client(operation).await?;
        session.query(operation, &self.sql(statement), values).await
    }

    /// Puts what is committed in order, in a transaction of its own: whoever looks through the log
    /// then holds up nobody.
    pub(super) async fn tick(&self, operation: &'static str) -> Result<()> {
        self.query(operation, "SELECT @.tick()", &[]).await.map(drop)
    }

    /// Runs one statement, as [`Lines::query`], and returns the first value of its one row.
    pub(super) async fn one<T>(
        &self,
        operation: &'static str,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let rows = self.query(operation, statement, values).await?;
        self.first_value(operation, &rows)
    }

    fn first_value<T>(&self, operation: &'static str, rows: &[Row]) -> Result<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let row = rows.first().ok_or_else(|| no_row(operation))?;
        row.try_get(0).map_err(|e| fault(operation, &self.shown, e))
    }

    /// Runs one statement that may take as long as the queue is large.
    pub(super) async fn slow(
        &self,
        operation: &'static str,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>> {
        self.check(operation)?;
        let session = self.slow.client(operation).await?;
        session.query_within(SLOW_WITHIN, operation, &self.sql(statement), values).await
    }

    /// Runs one statement, as [`Lines::slow`], and returns the first value of its one row.
    pub(super) async fn slow_one<T>(
        &self,
        operation: &'static str,
        statement: &str,
        values: &[Value<'_>],
    ) -> Result<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let rows = self.slow(operation, statement, values).await?;
        self.first_value(operation, &rows)
    }

    /// Returns the runs of apps that were begun here and have not ended.
    pub(super) fn runs(&self) -> MutexGuard<'_, Vec<i64>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in a transaction.
    ///
    /// # Cancel safety
    /// It goes on even if the caller stops waiting.
    pub(super) async fn transact<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        work: impl for<'a> FnOnce(&'a Self, &'a Session) -> BoxFuture<'a, Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.check(operation)?;
        let lines = Arc::clone(self);
        let done = tokio::spawn(async move {
            let _turn = lines.one_at_a_time.lock().await;
            let session = lines.transact.client(operation).await?;
            session.timed(operation, session.batch_execute("BEGIN")).await?;
            let done = work(&lines, &session).await;
            let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = session.timed(operation, session.batch_execute(end)).await;
            if ended.is_err() {
                // Nothing may be left half done on a connection that is used again.
                session.end();
            }
            let value = done?;
            ended.map(|()| value)
        });
        done.await.unwrap_or_else(|_| Err(closed(operation)))
    }

    /// Refuses what comes after the end.
    pub(super) fn check(&self, operation: &'static str) -> Result<()> {
        if self.closed.load(Relaxed) { Err(closed(operation)) } else { Ok(()) }
    }

    /// Ends all connections within `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        self.closed.store(true, Relaxed);
        let all = self.lines.iter().map(|line| &line.link).chain([&self.transact, &self.slow]);
        join_all(all.map(|link| link.close(limit))).await;
    }
}

fn no_row(operation: &'static str) -> Error {
    Error::new(crate::error::ErrorKind::Internal, operation, "the server returned no row")
}

/// Returns the code that the server gave for what it refused.
pub(super) fn code_of(error: &Error) -> Option<String> {
    let mut faults = causes(error).filter_map(|c| c.downcast_ref::<tokio_postgres::Error>());
    faults.find_map(|fault| fault.code().map(|code| code.code().to_owned()))
}
