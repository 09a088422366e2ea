//! Runs that go: asked for, or when their retention is over. Their records go by and by.

use super::{found::Wanted, runs::read_end};
use crate::{backend::RunState, clock::Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};

/// How many runs one transaction looks at, so that others wait only briefly.
const LOOK_MAX: i64 = 1000;

/// How many runs one transaction deletes, and of how many records of theirs.
const RUNS_MAX: usize = 100;
const RECORDS_MAX: i64 = 256;

/// How far pruning came.
pub(super) struct Pruned {
    pub(super) runs: u64,
    /// Where to go on; none at the end.
    pub(super) place: Option<i64>,
}

/// Deletes up to `most` runs behind `place` that `wanted` takes, that nobody holds and in which
/// nothing has happened since `cutoff`.
pub(super) fn prune(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    now: Timestamp,
    cutoff: Timestamp,
    place: i64,
    most: u64,
) -> rusqlite::Result<Pruned> {
    let mut look = transaction.prepare_cached(&format!(
        "SELECT j.number, j.pipeline, j.state, j.until, j.touched FROM journal j
         WHERE {} AND j.number > ?2 ORDER BY j.number LIMIT ?3",
        wanted.condition()
    ))?;
    let (mut doomed, mut last, mut seen, mut full) = (Vec::new(), place, 0, false);
    let mut rows = look.query(params![wanted.id(), place, LOOK_MAX])?;
    while !full && let Some(row) = rows.next()? {
        seen += 1;
        last = row.get(0)?;
        let state = match read_end(row, 2)? {
            Some(how) => RunState::Ended(how),
            None if row.get::<_, i64>(3)? > now.as_micros() => RunState::Running,
            None => RunState::Left,
        };
        let pipeline: String = row.get(1)?;
        if state != RunState::Running
            && row.get::<_, i64>(4)? <= cutoff.as_micros()
            && wanted.takes(&pipeline, state)
        {
            doomed.push(last);
        }
        full = doomed.len() == RUNS_MAX || doomed.len() as u64 >= most;
    }
    drop(rows);
    doomed.iter().try_for_each(|number| discard(transaction, *number))?;
    let more = full || seen == LOOK_MAX;
    Ok(Pruned { runs: doomed.len() as u64, place: more.then_some(last) })
}

/// Deletes a run, and leaves its records to [`empty`].
fn discard(transaction: &Transaction<'_>, number: i64) -> rusqlite::Result<()> {
    let shape: i64 = transaction
        .prepare_cached("DELETE FROM journal WHERE number = ?1 RETURNING shape")?
        .query_row([number], |row| row.get(0))?;
    transaction
        .prepare_cached(
            "DELETE FROM shapes WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM journal WHERE shape = ?1)",
        )?
        .execute([shape])?;
    transaction.prepare_cached("DELETE FROM journal_inputs WHERE run = ?1")?.execute([number])?;
    transaction
        .prepare_cached("INSERT OR IGNORE INTO journal_trash (run) VALUES (?1)")?
        .execute([number])?;
    Ok(())
}

/// Deletes some of the records of runs that are gone; tells whether there may be more.
pub(super) fn empty(transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
    let run: Option<i64> = transaction
        .prepare_cached("SELECT run FROM journal_trash LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(run) = run else { return Ok(false) };
    let gone = transaction
        .prepare_cached(
            "DELETE FROM journal_records WHERE run = ?1 AND number IN
             (SELECT number FROM journal_records WHERE run = ?1 ORDER BY number LIMIT ?2)",
        )?
        .execute(params![run, RECORDS_MAX])?;
    if i64::try_from(gone).is_ok_and(|gone| gone < RECORDS_MAX) {
        transaction.prepare_cached("DELETE FROM journal_trash WHERE run = ?1")?.execute([run])?;
    }
    Ok(true)
}

/// Removes some of what retention lets go; tells whether there may be more.
pub(super) fn sweep(transaction: &Transaction<'_>, cutoff: Timestamp) -> rusqlite::Result<bool> {
    let doomed: Vec<i64> = transaction
        .prepare_cached(
            "SELECT number FROM journal WHERE state IS NOT NULL AND touched <= ?1
             ORDER BY touched LIMIT ?2",
        )?
        .query_map(params![cutoff.as_micros(), RUNS_MAX as i64], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    doomed.iter().try_for_each(|number| discard(transaction, *number))?;
    Ok(empty(transaction)? || !doomed.is_empty())
}
