//! A listener to every event of interest from now on.

use super::{
    claim::{BYTES_MAX, decode},
    lines::{Lines, Value},
    wake::Wake,
    wants::Wants,
};
use crate::{
    backend::{Leased, Receipt, Settle, Source},
    backends::postgres::fault,
    error::Result,
};
use async_trait::async_trait;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};
use tokio_postgres::{Row, types::Type};

/// A listener to every event of interest from now on. It reads the log, so it misses nothing while
/// the connection is away.
#[derive(Debug)]
pub(super) struct BroadcastSource {
    pub(super) wants: Wants,
    pub(super) lines: Arc<Lines>,
    pub(super) wake: Arc<Wake>,
    pub(super) stopped: watch::Sender<bool>,
    pub(super) heard: Mutex<Heard>,
    // It reads on after it could not.
    pub(super) gap: Notify,
}

/// How far a broadcast has listened, and what it holds back until it is due.
#[derive(Debug)]
pub(super) struct Heard {
    place: i64,
    held: BTreeSet<(Instant, i64)>,
    handed_out: u64,
    // Whether the last look failed.
    failed: bool,
}

impl Heard {
    /// Begins behind a place.
    pub(super) fn behind(place: i64) -> Self {
        Self { place, held: BTreeSet::new(), handed_out: 0, failed: false }
    }
}

/// What a look came to, noted at its end: one that is broken off has moved nothing.
#[derive(Debug, Default)]
struct Looked {
    place: Option<i64>,
    found: Vec<Leased>,
    // What is to be held back, and what was and is not any more.
    held: Vec<(Instant, i64)>,
    due: Vec<(Instant, i64)>,
    // Whether there may be more.
    more: bool,
}

impl Looked {
    /// Takes an event to hand it out, or holds it back until it is due.
    fn take(&mut self, row: &Row) -> Result<(), tokio_postgres::Error> {
        let (place, delay): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if delay <= 0 {
            self.found.push(leased(place, row.try_get(2)?));
        } else if let Some(at) =
            // One that is due later than any clock goes is never due.
            Instant::now().checked_add(Duration::from_micros(delay.cast_unsigned()))
        {
            self.held.push((at, place));
        }
        Ok(())
    }
}

impl BroadcastSource {
    /// Reads what is new and wanted.
    async fn hear(&self, max: usize) -> Result<Looked> {
        let place = self.heard().place;
        let most = i32::try_from(max).unwrap_or(i32::MAX);
        let values: [Value<'_>; 5] = [
            (&place, Type::INT8),
            (&self.wants.types, Type::TEXT_ARRAY),
            (&self.wants.topics, Type::TEXT_ARRAY),
            (&most, Type::INT4),
            (&BYTES_MAX, Type::INT8),
        ];
        let statement = "SELECT * FROM @.hear($1, $2, $3, $4, $5)";
        let rows = self.lines.query("fetch", statement, &values).await?;
        read(&rows).map_err(|e| fault("fetch", &self.lines.shown, e))
    }

    /// Reads what was held back and is due now by the clock here; what is not by the server's is
    /// held back on, and what was withdrawn is forgotten.
    async fn due(&self, max: usize) -> Result<Looked> {
        let now = Instant::now();
        let due: Vec<_> =
            self.heard().held.iter().take_while(|(at, _)| *at <= now).take(max).copied().collect();
        if due.is_empty() {
            return Ok(Looked::default());
        }
        let places: Vec<i64> = due.iter().map(|(_, place)| *place).collect();
        let values: [Value<'_>; 1] = [(&places, Type::INT8_ARRAY)];
        let statement = "SELECT * FROM @.hear_again($1)";
        let rows = self.lines.query("fetch", statement, &values).await?;
        let mut looked = Looked { due, more: true, ..Looked::default() };
        let read: Result<(), _> = rows.iter().try_for_each(|row| looked.take(row));
        read.map_err(|e| fault("fetch", &self.lines.shown, e))?;
        Ok(looked)
    }

    /// Reads what is due, else what is new.
    async fn read_on(&self, max: usize) -> Result<Looked> {
        let due = self.due(max).await?;
        if due.found.is_empty() && due.due.is_empty() { self.hear(max).await } else { Ok(due) }
    }

    /// Notes what a look came to; tells what it found, whether there may be more, and when what is
    /// held back longest is due.
    fn note(&self, looked: Looked) -> (Vec<Leased>, bool, Option<Instant>) {
        let mut heard = self.heard();
        if std::mem::take(&mut heard.failed) {
            self.gap.notify_one();
        }
        heard.place = looked.place.unwrap_or(heard.place);
        for one in &looked.due {
            heard.held.remove(one);
        }
        heard.held.extend(looked.held);
        heard.handed_out += looked.found.len() as u64;
        (looked.found, looked.more, heard.held.first().map(|(at, _)| *at))
    }

    /// Returns what of these is no longer there.
    async fn withdrawn(&self, places: &[i64]) -> Result<BTreeSet<i64>> {
        if places.is_empty() {
            return Ok(BTreeSet::new());
        }
        let values: [Value<'_>; 1] = [(&places, Type::INT8_ARRAY)];
        let statement = "SELECT p.place FROM unnest($1) AS p (place) WHERE NOT EXISTS (\
                         SELECT FROM @.events e WHERE e.seq = @.seq_at(p.place))";
        let rows = self.lines.query("fetch", statement, &values).await?;
        let places: Result<_, _> = rows.iter().map(|row| row.try_get(0)).collect();
        places.map_err(|e| fault("fetch", &self.lines.shown, e))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}

fn read(rows: &[Row]) -> Result<Looked, tokio_postgres::Error> {
    let mut looked = Looked { found: Vec::with_capacity(rows.len()), ..Looked::default() };
    for row in rows {
        match row.try_get::<_, Option<&[u8]>>(2)? {
            None => {
                looked.place = Some(row.try_get(0)?);
                looked.more = row.try_get::<_, i64>(1)? > 0;
            }
            Some(_) => looked.take(row)?,
        }
    }
    Ok(looked)
}

fn leased(place: i64, body: &[u8]) -> Leased {
    Leased {
        receipt: Receipt { place: place.cast_unsigned(), fence: 0, token: None },
        event: decode(body),
        attempt: 1,
        lost: false,
        finished: Vec::new(),
        only: None,
    }
}

#[async_trait]
impl Source for BroadcastSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut news = self.wake.news();
        while !self.is_stopped() {
            news.mark_unchanged();
            // Only this task moves the place; others only look at it.
            let looked = self.read_on(max).await.inspect_err(|_| self.heard().failed = true)?;
            let (found, more, due) = self.note(looked);
            if !found.is_empty() {
                return Ok(found);
            }
            if !more {
                let until = due.map(|at| at.saturating_duration_since(Instant::now()));
                let limit = until.map_or(self.wake.poll(), |until| until.min(self.wake.poll()));
                Wake::wait(&mut news, &self.stopped, limit).await;
            }
        }
        Ok(Vec::new())
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let newest: i64 = self.lines.one("fetch", "SELECT @.tick()", &[]).await?;
        let held: Vec<i64> = self.heard().held.iter().map(|(_, place)| *place).collect();
        let gone = self.withdrawn(&held).await?;
        let mut heard = self.heard();
        heard.held.retain(|(_, place)| !gone.contains(place));
        let all = heard.place >= newest && heard.held.is_empty();
        Ok(all.then_some(heard.handed_out))
    }

    async fn gap(&self) {
        self.gap.notified().await;
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        // At most once: there is nothing to settle.
        vec![Ok(()); batch.len()]
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        Ok(())
    }
}
