//! What the processes of a store have in common beside events: marks, and buckets of tokens.

use super::{timeline::Timeline, writer::Weight, writer::Writer};
use crate::{
    clock::Timestamp,
    commons::{Claim, Commons, Draw, Grant, Mark},
    error::Result,
};
use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};
use std::time::Duration;

/// How many marks that are over are removed with each claim: more than it adds.
const TIDY: &str = "DELETE FROM marks WHERE (space, key) IN (
    SELECT space, key FROM marks WHERE until <= ?1 ORDER BY until LIMIT 4)";

/// What is kept in an open store. It does not keep the store open.
///
/// Nothing of it waits for the disk: it is in the log before what is settled after it, so what power
/// loss forgets of it, it forgets with that.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) timeline: Timeline,
}

impl Shared {
    async fn call<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.call(Weight::Light, work).await
    }
}

/// A mark, to be kept while its job waits.
struct Own {
    space: String,
    key: String,
    holder: String,
}

impl Own {
    fn of(mark: Mark<'_>, holder: &str) -> Self {
        Self { space: mark.space.into(), key: mark.key.into(), holder: holder.into() }
    }

    /// Returns who holds the mark, none if it is done, and until when.
    fn found(
        &self,
        t: &Transaction<'_>,
        now: Timestamp,
    ) -> rusqlite::Result<Option<(Option<String>, Timestamp)>> {
        t.prepare_cached(
            "SELECT holder, until FROM marks WHERE space = ?1 AND key = ?2 AND until > ?3",
        )?
        .query_row(params![self.space, self.key, now.as_micros()], |row| {
            Ok((row.get(0)?, Timestamp::from_micros(row.get(1)?)))
        })
        .optional()
    }

    fn put(
        &self,
        t: &Transaction<'_>,
        holder: Option<&str>,
        until: Timestamp,
    ) -> rusqlite::Result<()> {
        t.prepare_cached(
            "INSERT OR REPLACE INTO marks (space, key, holder, until) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![self.space, self.key, holder, until.as_micros()])
        .map(drop)
    }

    fn claim(
        &self,
        t: &Transaction<'_>,
        now: Timestamp,
        lease: Duration,
    ) -> rusqlite::Result<Claim> {
        match self.found(t, now)? {
            Some((None, _)) => return Ok(Claim::Done),
            Some((Some(other), until)) if other != self.holder => {
                return Ok(Claim::Held(until.since(now)));
            }
            _ => {}
        }
        self.put(t, Some(&self.holder), now.after(lease))?;
        t.prepare_cached(TIDY)?.execute([now.as_micros()])?;
        Ok(Claim::Mine)
    }

    fn commit(
        &self,
        t: &Transaction<'_>,
        now: Timestamp,
        window: Duration,
    ) -> rusqlite::Result<bool> {
        match self.found(t, now)? {
            Some((None, _)) => Ok(true),
            Some((Some(other), _)) if other != self.holder => Ok(false),
            _ => self.put(t, None, now.after(window)).map(|()| true),
        }
    }

    fn release(&self, t: &Transaction<'_>) -> rusqlite::Result<()> {
        t.prepare_cached("DELETE FROM marks WHERE space = ?1 AND key = ?2 AND holder = ?3")?
            .execute(params![self.space, self.key, self.holder])
            .map(drop)
    }
}

fn draw(t: &Transaction<'_>, now: Timestamp, bucket: &str, draw: Draw) -> rusqlite::Result<Grant> {
    let was = t
        .prepare_cached("SELECT level, at FROM buckets WHERE name = ?1")?
        .query_row([bucket], |row| Ok((row.get(0)?, Timestamp::from_micros(row.get(1)?))))
        .optional()?;
    let (level, at) = was.unwrap_or((f64::from(draw.burst), now));
    let (level, grant) = draw.on(level, now.since(at));
    t.prepare_cached("INSERT OR REPLACE INTO buckets (name, level, at) VALUES (?1, ?2, ?3)")?
        .execute(params![bucket, level, now.as_micros()])?;
    Ok(grant)
}

#[async_trait]
impl Commons for Shared {
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim> {
        let (own, timeline) = (Own::of(mark, holder), self.timeline.clone());
        self.call(move |t| own.claim(t, timeline.now(), lease)).await
    }

    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool> {
        let (own, timeline) = (Own::of(mark, holder), self.timeline.clone());
        self.call(move |t| own.commit(t, timeline.now(), window)).await
    }

    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()> {
        let own = Own::of(mark, holder);
        self.call(move |t| own.release(t)).await
    }

    async fn draw(&self, bucket: &str, asked: Draw) -> Result<Grant> {
        let (bucket, timeline) = (bucket.to_owned(), self.timeline.clone());
        self.call(move |t| draw(t, timeline.now(), &bucket, asked)).await
    }
}
