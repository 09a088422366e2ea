//! Publishing: events into the log, with the input positions they move.

use super::timeline::Timeline;
use crate::{
    backend::{Advance, Outgoing, Position},
    clock::Timestamp,
    codec,
    error::{Error, ErrorKind, Result},
};
use rusqlite::{OptionalExtension, Transaction, params};
use std::{collections::HashMap, sync::Arc};

/// An event made ready outside the writer's thread.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    id: String,
    event_type: String,
    topic: String,
    at: i64,
    due: Option<i64>,
    run: Option<i64>,
    // The input and the reason, if it never became an event.
    rejected: Option<(String, String)>,
    position: Option<Advance>,
    body: Vec<u8>,
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
        id: event.id().into(),
        event_type: event.event_type().into(),
        topic: event.topic().into(),
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
        insert_one(transaction, ready)?;
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

fn insert_one(transaction: &Transaction<'_>, ready: &Ready) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO events (id, type, topic, at, due, run, rejected, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            ready.id,
            ready.event_type,
            ready.topic,
            ready.at,
            ready.due,
            ready.run,
            ready.rejected.is_some(),
            ready.body,
        ])?;
    if let Some((input, reason)) = &ready.rejected {
        transaction
            .prepare_cached(
                "INSERT INTO letters (seq, grp, subscription, reason, attempts, at)
                 VALUES (?1, NULL, ?2, ?3, 0, ?4)",
            )?
            .execute(params![transaction.last_insert_rowid(), input, reason, ready.at])?;
    }
    Ok(())
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
