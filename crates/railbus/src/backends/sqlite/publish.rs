//! Publishing: events into the log, with the input positions they move.

use super::timeline::Timeline;
use crate::{
    backend::{Advance, Outgoing, Position},
    clock::Timestamp,
    codec,
    error::{Error, ErrorKind, Result},
    event::Event,
};
use rusqlite::{OptionalExtension, Statement, Transaction, params};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

/// How many events one statement inserts, largest first. The number of the newest event is read and
/// written once a statement, so a statement for each event costs twice as much.
const ROWS: [usize; 4] = [64, 16, 4, 1];

/// The statements for so many rows. A statement that fails ends its transaction, so SQLite needs
/// no journal of its own to undo it.
static INSERTS: LazyLock<[String; ROWS.len()]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let columns =
            "INSERT OR FAIL INTO events (id, type, topic, at, due, run, key, body) VALUES ";
        columns.to_owned() + &["(?, ?, ?, ?, ?, ?, ?, ?)"; 64][..rows].join(", ")
    })
});

/// An event made ready outside the writer's thread.
#[derive(Debug)]
pub(super) struct Ready {
    event: Event,
    at: i64,
    due: Option<i64>,
    run: Option<i64>,
    // The input and the reason, if it never became an event.
    rejected: Option<(String, String)>,
    position: Option<Advance>,
    body: Vec<u8>,
}

impl Ready {
    /// Tells whether it only needs to be inserted.
    pub(super) fn is_plain(&self) -> bool {
        self.rejected.is_none() && self.position.is_none()
    }
}

/// Checks and encodes one event.
pub(super) fn make_ready(
    outgoing: &Outgoing,
    payload_max: usize,
    timeline: &Timeline,
) -> Result<Ready> {
    let event = &outgoing.event;
    event.check()?;
    let size = event.text()?.len();
    if size > payload_max {
        let why = "the payload is too large for the store";
        return Err(Error::new(ErrorKind::TooLarge, "publish", why)
            .with("event", event.id())
            .with("bytes", size)
            .with("allowed", payload_max)
            .hint("publish a reference to where the data is kept"));
    }
    let input = outgoing.position.as_ref().map_or("", |p| &*p.input);
    Ok(Ready {
        event: event.clone(),
        at: Timestamp::now().as_micros(),
        due: event.delay().map(|delay| timeline.now().after(delay).as_micros()),
        run: outgoing.run.map(|run| run.run),
        rejected: outgoing.rejected.as_ref().map(|why| (input.into(), why.clone())),
        position: outgoing.position.clone(),
        body: codec::encode(event)?,
    })
}

/// Where an input stands in the store instead of where a batch thought it did.
pub(super) type Moved = Option<Arc<str>>;

/// Inserts a batch, or nothing if another process moved one of its inputs.
pub(super) fn insert(transaction: &Transaction<'_>, batch: &[Ready]) -> rusqlite::Result<Moved> {
    let mut positions: HashMap<&Arc<str>, Position> = HashMap::new();
    for step in batch.iter().filter_map(|ready| ready.position.as_ref()) {
        let stored = match positions.get(&step.input) {
            Some(position) => position.offset,
            None => position(transaction, &step.input)?.map_or(0, |p| p.offset),
        };
        if stored != step.from {
            return Ok(Some(Arc::clone(&step.input)));
        }
        positions.insert(&step.input, step.to);
    }
    for ready in batch {
        insert_plain(transaction, &[ready])?;
        reject(transaction, ready)?;
    }
    let mut save = transaction.prepare_cached(
        "INSERT INTO inputs (name, position, fingerprint) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET position = ?2, fingerprint = ?3",
    )?;
    for (input, to) in positions {
        save.execute(params![&**input, to.offset.cast_signed(), to.fingerprint.cast_signed()])?;
    }
    Ok(None)
}

/// Inserts events that need nothing besides, of any number of batches.
pub(super) fn insert_plain(
    transaction: &Transaction<'_>,
    mut events: &[&Ready],
) -> rusqlite::Result<()> {
    for (rows, insert) in ROWS.iter().zip(&*INSERTS) {
        if events.len() < *rows {
            continue;
        }
        let mut insert = transaction.prepare_cached(insert)?;
        while let Some((now, later)) = events.split_at_checked(*rows) {
            for (row, ready) in now.iter().enumerate() {
                bind(&mut insert, row * 8, ready)?;
            }
            insert.raw_execute()?;
            events = later;
        }
    }
    Ok(())
}

fn bind(insert: &mut Statement<'_>, before: usize, ready: &Ready) -> rusqlite::Result<()> {
    insert.raw_bind_parameter(before + 1, ready.event.id())?;
    insert.raw_bind_parameter(before + 2, ready.event.event_type())?;
    insert.raw_bind_parameter(before + 3, ready.event.topic())?;
    insert.raw_bind_parameter(before + 4, ready.at)?;
    insert.raw_bind_parameter(before + 5, ready.due)?;
    insert.raw_bind_parameter(before + 6, ready.run)?;
    insert.raw_bind_parameter(before + 7, ready.event.key())?;
    insert.raw_bind_parameter(before + 8, &*ready.body)
}

/// Marks what was just inserted as never having become an event, if it did not.
fn reject(transaction: &Transaction<'_>, ready: &Ready) -> rusqlite::Result<()> {
    let Some((input, reason)) = &ready.rejected else { return Ok(()) };
    let seq = transaction.last_insert_rowid();
    transaction.prepare_cached("UPDATE events SET rejected = 1 WHERE seq = ?1")?.execute([seq])?;
    transaction
        .prepare_cached(
            "INSERT INTO letters (seq, grp, subscription, reason, attempts, at)
                 VALUES (?1, NULL, ?2, ?3, 0, ?4)",
        )?
        .execute(params![seq, input, reason, ready.at])?;
    Ok(())
}

/// Removes what was published under this id and is not due yet; tells whether there was anything.
pub(super) fn withdraw(
    transaction: &Transaction<'_>,
    event_id: &str,
    timeline: &Timeline,
) -> rusqlite::Result<bool> {
    let mut held_back = transaction
        .prepare_cached("SELECT seq FROM events WHERE id = ?1 AND due IS NOT NULL AND due > ?2")?;
    let rows =
        held_back.query_map(params![event_id, timeline.now().as_micros()], |row| row.get(0))?;
    let found: Vec<i64> = rows.collect::<rusqlite::Result<_>>()?;
    for seq in &found {
        // Groups that have passed it hold it back as well.
        let rows = "DELETE FROM deliveries WHERE seq = ?1 AND grp IN (SELECT id FROM groups)";
        transaction.prepare_cached(rows)?.execute([seq])?;
        transaction.prepare_cached("DELETE FROM events WHERE seq = ?1")?.execute([seq])?;
    }
    Ok(!found.is_empty())
}

/// Reads how far an input was stored.
pub(super) fn position(
    connection: &rusqlite::Connection,
    input: &str,
) -> rusqlite::Result<Option<Position>> {
    connection
        .prepare_cached("SELECT position, fingerprint FROM inputs WHERE name = ?1")?
        .query_row([input], |row| {
            Ok(Position {
                offset: row.get::<_, i64>(0)?.cast_unsigned(),
                fingerprint: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        })
        .optional()
}
