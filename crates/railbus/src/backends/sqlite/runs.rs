//! Runs of pipelines: begun, recorded in, ended, each under a lease.

use super::timeline::Timeline;
use crate::{
    backend::{NewRun, RunEnd, RunLease, RunState, Told},
    clock::Timestamp,
    error::Error,
    journal::{Ready, has_ended, lost, twice, was_deleted},
};
use rusqlite::{OptionalExtension, Row, Transaction, params, types::Type};

/// What the store says of a run to whoever writes in it.
struct Known {
    number: i64,
    pipeline: String,
    shape: i64,
    owner: String,
    fence: i64,
    until: Timestamp,
    records: i64,
    cancel: bool,
    ended: Option<RunEnd>,
}

impl Known {
    fn state(&self, now: Timestamp) -> RunState {
        match self.ended {
            Some(how) => RunState::Ended(how),
            None if self.until > now => RunState::Running,
            None => RunState::Left,
        }
    }
}

fn known(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<Known>> {
    transaction
        .prepare_cached(
            "SELECT number, pipeline, shape, owner, fence, until, records, cancel, state
             FROM journal WHERE id = ?1",
        )?
        .query_row([id], |row| {
            Ok(Known {
                number: row.get(0)?,
                pipeline: row.get(1)?,
                shape: row.get(2)?,
                owner: row.get(3)?,
                fence: row.get(4)?,
                until: Timestamp::from_micros(row.get(5)?),
                records: row.get(6)?,
                cancel: row.get(7)?,
                ended: read_end(row, 8)?,
            })
        })
        .optional()
}

/// Reads how a run ended; none if it has not.
pub(super) fn read_end(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<RunEnd>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    let unknown =
        |e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::<Error>::new(e));
    text.parse().map(Some).map_err(unknown)
}

/// What came of beginning a run, before the run is read for whoever does not get it.
pub(super) enum Begins {
    New(RunLease),
    Resumed(RunLease),
    Elsewhere,
    Finished,
    OtherShape,
}

/// Begins a run or takes one over, for one caller of all that ask.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    run: &NewRun,
    input: &str,
) -> rusqlite::Result<Begins> {
    let now = timeline.now();
    let lease = |fence: i64| RunLease {
        run: run.id.clone(),
        fence: fence.cast_unsigned(),
        lease: run.lease,
    };
    let Some(known) = known(transaction, &run.id)? else {
        insert(transaction, now, run, input)?;
        return Ok(Begins::New(lease(1)));
    };
    if known.pipeline != run.pipeline {
        return Ok(Begins::OtherShape);
    }
    match known.state(now) {
        RunState::Ended(_) => return Ok(Begins::Finished),
        RunState::Running => return Ok(Begins::Elsewhere),
        RunState::Left if known.cancel => {
            close(transaction, now, &known, RunEnd::Cancelled, None)?;
            return Ok(Begins::Finished);
        }
        RunState::Left => {}
    }
    if !is_shape(transaction, known.shape, &run.shape)? {
        return Ok(Begins::OtherShape);
    }
    let fence = known.fence.saturating_add(1);
    transaction
        .prepare_cached(
            "UPDATE journal SET owner = ?2, fence = ?3, until = ?4, touched = ?5 WHERE number = ?1",
        )?
        .execute(params![
            known.number,
            run.owner,
            fence,
            now.after(run.lease).as_micros(),
            now.as_micros()
        ])?;
    Ok(Begins::Resumed(lease(fence)))
}

fn insert(
    transaction: &Transaction<'_>,
    now: Timestamp,
    run: &NewRun,
    input: &str,
) -> rusqlite::Result<()> {
    let shape = shape_of(transaction, &run.version, &run.shape)?;
    transaction
        .prepare_cached(
            "INSERT INTO journal (id, pipeline, shape, owner, fence, until, touched, began_at)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7)",
        )?
        .execute(params![
            run.id,
            run.pipeline,
            shape,
            run.owner,
            now.after(run.lease).as_micros(),
            now.as_micros(),
            Timestamp::now().as_micros(),
        ])?;
    let number = transaction.last_insert_rowid();
    transaction
        .prepare_cached("INSERT INTO journal_inputs (run, input) VALUES (?1, ?2)")?
        .execute(params![number, input])?;
    Ok(())
}

/// Returns the row of a graph, which is kept once however many runs have it.
fn shape_of(transaction: &Transaction<'_>, version: &str, text: &str) -> rusqlite::Result<i64> {
    let found = transaction
        .prepare_cached("SELECT id FROM shapes WHERE version = ?1 AND text = ?2")?
        .query_row([version, text], |row| row.get(0))
        .optional()?;
    if let Some(shape) = found {
        return Ok(shape);
    }
    transaction
        .prepare_cached("INSERT INTO shapes (version, text) VALUES (?1, ?2)")?
        .execute([version, text])?;
    Ok(transaction.last_insert_rowid())
}

fn is_shape(transaction: &Transaction<'_>, shape: i64, text: &str) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("SELECT text = ?2 FROM shapes WHERE id = ?1")?
        .query_row(params![shape, text], |row| row.get(0))
}

/// What is refused although SQLite would do it.
pub(super) type Answer<T> = rusqlite::Result<Result<T, Error>>;

/// Finds the run that a lease is for, if the lease still is the latest.
fn held(transaction: &Transaction<'_>, lease: &RunLease) -> Answer<Known> {
    Ok(match known(transaction, &lease.run)? {
        None => Err(was_deleted(&lease.run)),
        Some(known) if known.fence.cast_unsigned() != lease.fence => {
            Err(lost(&lease.run, &known.owner))
        }
        Some(known) => Ok(known),
    })
}

/// Finds the run that a lease is for, if it may be written in.
fn open(transaction: &Transaction<'_>, lease: &RunLease) -> Answer<Known> {
    Ok(held(transaction, lease)?.and_then(|known| match known.ended {
        Some(how) => Err(has_ended(&lease.run, how)),
        None => Ok(known),
    }))
}

/// Stores records, all or none, and renews the lease.
pub(super) fn record(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    lease: &RunLease,
    records: &[Ready],
) -> Answer<Told> {
    let known = match open(transaction, lease)? {
        Ok(known) => known,
        Err(error) => return Ok(Err(error)),
    };
    let mut new = Vec::with_capacity(records.len());
    for ready in records {
        match is_recorded(transaction, known.number, ready)? {
            None => new.push(ready),
            Some(true) => {}
            Some(false) => return Ok(Err(twice(&lease.run, &ready.path, ready.visit))),
        }
    }
    let at = Timestamp::now().as_micros();
    let mut insert = transaction.prepare_cached(
        "INSERT INTO journal_records (run, number, path, visit, at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut number = known.records;
    for ready in new {
        number += 1;
        insert.execute(params![known.number, number, ready.path, ready.visit, at, ready.body])?;
    }
    let now = timeline.now();
    transaction
        .prepare_cached(
            "UPDATE journal SET until = ?2, touched = ?3, records = ?4 WHERE number = ?1",
        )?
        .execute(params![
            known.number,
            now.after(lease.lease).as_micros(),
            now.as_micros(),
            number
        ])?;
    Ok(Ok(told(&known)))
}

fn told(known: &Known) -> Told {
    if known.cancel { Told::Cancel } else { Told::GoOn }
}

/// Tells whether a place is recorded, and then whether with the same.
fn is_recorded(
    transaction: &Transaction<'_>,
    run: i64,
    ready: &Ready,
) -> rusqlite::Result<Option<bool>> {
    transaction
        .prepare_cached(
            "SELECT body = ?4 FROM journal_records WHERE run = ?1 AND path = ?2 AND visit = ?3",
        )?
        .query_row(params![run, ready.path, ready.visit, ready.body], |row| row.get(0))
        .optional()
}

/// Renews a lease.
pub(super) fn renew(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    lease: &RunLease,
) -> Answer<Told> {
    let known = match open(transaction, lease)? {
        Ok(known) => known,
        Err(error) => return Ok(Err(error)),
    };
    set_until(transaction, known.number, timeline.now().after(lease.lease))?;
    Ok(Ok(told(&known)))
}

/// Gives a lease back, if it still is one.
pub(super) fn release(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    lease: &RunLease,
) -> rusqlite::Result<()> {
    let now = timeline.now();
    match open(transaction, lease)? {
        Ok(known) if known.until > now => set_until(transaction, known.number, now),
        _ => Ok(()),
    }
}

fn set_until(transaction: &Transaction<'_>, number: i64, until: Timestamp) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE journal SET until = ?2 WHERE number = ?1")?
        .execute(params![number, until.as_micros()])?;
    Ok(())
}

/// Ends a run; again in the same way is fine.
pub(super) fn end(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    lease: &RunLease,
    how: RunEnd,
    error: Option<&str>,
) -> Answer<()> {
    let known = match held(transaction, lease)? {
        Ok(known) => known,
        Err(error) => return Ok(Err(error)),
    };
    match known.ended {
        None => close(transaction, timeline.now(), &known, how, error).map(Ok),
        Some(same) if same == how => Ok(Ok(())),
        Some(other) => Ok(Err(has_ended(&lease.run, other))),
    }
}

/// Ends a run.
fn close(
    transaction: &Transaction<'_>,
    now: Timestamp,
    known: &Known,
    how: RunEnd,
    error: Option<&str>,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE journal SET state = ?2, error = ?3, ended_at = ?4, touched = ?5
             WHERE number = ?1",
        )?
        .execute(params![
            known.number,
            how.name(),
            error,
            Timestamp::now().as_micros(),
            now.as_micros()
        ])?;
    Ok(())
}

/// Asks for the end of a run, or ends it if nobody runs it; returns how it stood.
pub(super) fn cancel(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    id: &str,
) -> rusqlite::Result<Option<RunState>> {
    let Some(known) = known(transaction, id)? else { return Ok(None) };
    let now = timeline.now();
    let state = known.state(now);
    match state {
        RunState::Ended(_) | RunState::Running => {}
        RunState::Left => close(transaction, now, &known, RunEnd::Cancelled, None)?,
    }
    if !matches!(state, RunState::Ended(_)) {
        transaction
            .prepare_cached("UPDATE journal SET cancel = 1 WHERE number = ?1")?
            .execute([known.number])?;
    }
    Ok(Some(state))
}
