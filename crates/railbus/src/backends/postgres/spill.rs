//! Events that are too large for a notification: kept in a table, where their listeners fetch them.
//!
//! The notification is a reference, which no event can be mistaken for: a structured CloudEvent
//! begins with a brace. Rows are not taken out by who reads them, since nobody knows how many
//! listeners there are; they are deleted after a while, by whoever spills or reads.

use super::{
    link::Link,
    session::Session,
    settings::{Server, quote},
};
use crate::error::{Error, ErrorKind, Result};
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::sleep};
use tokio_postgres::types::{ToSql, Type};
use tokio_util::sync::CancellationToken;

/// The largest notification, in bytes. Source: `NOTIFY_PAYLOAD_MAX_LENGTH` of PostgreSQL, which the
/// length must stay below.
pub(super) const NOTE_MAX: usize = 7_999;

const REFERENCE: &str = "spilled:";

/// How often old rows are looked for at most, unless the last look found as many as it may.
const CLEANED_EVERY: Duration = Duration::from_secs(1);

/// How many rows are deleted in one statement.
const DELETED_MAX: i64 = 1_000;

/// Returns the row that a notification refers to.
pub(super) fn reference(note: &str) -> Option<i64> {
    note.strip_prefix(REFERENCE)?.parse().ok()
}

/// Writes the migrations of the table as SQL that may be run any number of times, from anywhere.
///
/// Together they are one transaction, behind one lock: instances that start at once wait for each other. A user who may
/// not create finds all there, if a DBA has run it, and needs `USAGE` on the schema, and `SELECT,
/// INSERT, DELETE` on the table.
pub(super) fn migrations(schema: &str) -> String {
    let schema = quote(schema);
    format!(
        "SELECT pg_advisory_xact_lock(hashtextextended('railbus:' || '{lock}', 0));
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.versions
  (part text PRIMARY KEY, version int NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS {schema}.spilled
  (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
   at timestamptz NOT NULL DEFAULT now(), body bytea NOT NULL);
CREATE INDEX IF NOT EXISTS spilled_at ON {schema}.spilled (at);
INSERT INTO {schema}.versions (part, version) VALUES ('spilled', 1)
  ON CONFLICT (part) DO UPDATE SET version = GREATEST(versions.version, excluded.version);",
        lock = schema.replace('\'', "''"),
    )
}

/// The table, as one bus uses it.
#[derive(Debug)]
pub(super) struct Spill {
    link: Arc<Link>,
    retention: Duration,
    insert: String,
    read: String,
    clean: String,
    spilled: Arc<Notify>,
    // Whether the task runs that deletes old rows.
    cleaning: AtomicBool,
    stop: CancellationToken,
}

impl Spill {
    pub(super) fn new(link: Arc<Link>, retention: Duration) -> Self {
        let table = format!("{}.spilled", quote(&link.server().schema));
        Self {
            link,
            retention,
            insert: format!(
                "WITH kept AS (INSERT INTO {table} (body) VALUES ($2) RETURNING id) \
                 SELECT pg_notify($1, '{REFERENCE}' || id) FROM kept"
            ),
            read: format!("SELECT id, body FROM {table} WHERE id = ANY($1)"),
            // Beside it: how many went, and in how many seconds the oldest that is left may go.
            clean: format!(
                "WITH gone AS (DELETE FROM {table} WHERE id IN (SELECT id FROM {table} \
                 WHERE at < now() - $1 * interval '1 second' \
                 ORDER BY at LIMIT {DELETED_MAX}) RETURNING id) \
                 SELECT (SELECT count(*) FROM gone), (SELECT extract(epoch FROM at - now() \
                 + $1 * interval '1 second')::float8 FROM {table} \
                 WHERE at >= now() - $1 * interval '1 second' ORDER BY at LIMIT 1)"
            ),
            spilled: Arc::default(),
            cleaning: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }
    }

    /// Keeps one event and notifies its listeners of it, in one statement.
    pub(super) async fn publish(&self, channel: &str, body: &[u8]) -> Result<()> {
        let session = self.link.client("publish").await?;
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&channel, Type::TEXT), (&body, Type::BYTEA)];
        let kept = session.query("publish", &self.insert, &values).await;
        match kept {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                migrate(&session, self.link.server()).await?;
                session.query("publish", &self.insert, &values).await?;
            }
            kept => drop(kept?),
        }
        self.clean_up();
        Ok(())
    }

    /// Reads what was kept; what is missing was deleted before.
    pub(super) async fn read(&self, ids: &[i64]) -> Result<HashMap<i64, Vec<u8>>> {
        let session = self.link.client("fetch").await?;
        let rows = session.query("fetch", &self.read, &[(&ids, Type::INT8_ARRAY)]).await?;
        // Who wrote it may be gone.
        self.clean_up();
        Ok(rows
            .iter()
            .filter_map(|row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?)))
            .collect())
    }

    /// Has old rows deleted, by one task that lives from the first that this bus spills until the bus
    /// closes.
    fn clean_up(&self) {
        self.spilled.notify_one();
        if self.cleaning.swap(true, Ordering::AcqRel) {
            return;
        }
        let work = clean(
            Arc::downgrade(&self.link),
            self.clean.clone(),
            self.retention,
            Arc::clone(&self.spilled),
        );
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// Ends what runs in the background.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Deletes rows once they are old, other buses' too, and waits while there are none.
async fn clean(link: Weak<Link>, sql: String, retention: Duration, spilled: Arc<Notify>) {
    let seconds = retention.as_secs_f64();
    loop {
        spilled.notified().await;
        // What was kept just now is old after this time, and what was kept before it, too.
        let mut wait = retention;
        loop {
            sleep(wait).await;
            let Some(link) = link.upgrade() else { return };
            let deleted = async {
                let session = link.client("clean up").await?;
                let rows = session.query("clean up", &sql, &[(&seconds, Type::FLOAT8)]).await?;
                let row = rows.first();
                let count: i64 = row.and_then(|row| row.try_get(0).ok()).unwrap_or(0);
                Ok::<_, Error>((count, row.and_then(|row| row.try_get::<_, f64>(1).ok())))
            };
            wait = match deleted.await {
                Ok((DELETED_MAX.., _)) => Duration::ZERO,
                Ok((_, Some(left))) => {
                    let left = Duration::try_from_secs_f64(left).unwrap_or_default();
                    left.clamp(CLEANED_EVERY.min(retention), retention)
                }
                Ok((_, None)) => break,
                Err(error) if error.kind() == ErrorKind::Denied => {
                    tracing::debug!(%error, "what is large is left to others to delete");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "what was too large for a notification is not deleted");
                    retention.max(CLEANED_EVERY)
                }
            }
        }
    }
}

async fn migrate(session: &Session, server: &Server) -> Result<()> {
    let sql = migrations(&server.schema);
    let made = session.timed("create tables", session.batch_execute(&sql)).await;
    made.map_err(|e| {
        let hint = "an event of 8000 bytes or more needs a table: have it created as docs/postgres.md \
                    shows, or keep payloads smaller";
        if e.kind() == ErrorKind::Denied { e.hint(hint) } else { e }
    })
}
