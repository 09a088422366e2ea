//! Accounts: what became of a run's events, counted from what is stored.

use super::groups::{id_of, newest, write_interest};
use crate::{
    backend::{RunMark, Tally},
    clock::Timestamp,
    predicate::Interest,
};
use rusqlite::{Connection, Transaction, named_params, params};
use serde_json::{Value, json};

/// How many runs that never ended, be it that they still run, are kept account of.
const RUNS_KEPT: i64 = 16;

/// How long runs that ended are remembered, in microseconds: 90 days.
const RUNS_FOR_MICROS: i64 = 90 * 24 * 60 * 60 * 1_000_000;

/// Begins a run.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    groups: &[(String, Interest)],
) -> rusqlite::Result<RunMark> {
    let old = Timestamp::now().as_micros().saturating_sub(RUNS_FOR_MICROS);
    transaction.execute("DELETE FROM runs WHERE began_at < ?1 AND ended = 1", [old])?;
    let rows = groups
        .iter()
        .map(|(name, interest)| json!({ "name": name, "interest": write_interest(interest) }));
    transaction.execute(
        "INSERT INTO runs (began_at, newest, groups) VALUES (?1, ?2, ?3)",
        params![
            Timestamp::now().as_micros(),
            newest(transaction)?,
            Value::Array(rows.collect()).to_string(),
        ],
    )?;
    Ok(RunMark { run: transaction.last_insert_rowid() })
}

/// Ends a run.
pub(super) fn end(transaction: &Transaction<'_>, run: RunMark) -> rusqlite::Result<()> {
    transaction.execute("UPDATE runs SET ended = 1, swept = NULL WHERE id = ?1", [run.run])?;
    Ok(())
}

/// Counts the outcomes of a run's events, each id by its worst, and what retention has removed.
pub(super) fn tally(connection: &Connection, run: RunMark) -> rusqlite::Result<Tally> {
    // One snapshot: what is swept meanwhile is counted on one side or the other, and once.
    let connection = &connection.unchecked_transaction()?;
    let swept: Option<String> =
        connection.query_row("SELECT swept FROM runs WHERE id = ?1", [run.run], |r| r.get(0))?;
    Ok(count(connection, run.run, None)? + read_tally(swept.as_deref()))
}

/// Adds what is about to be removed to the counts of the runs that have not ended.
pub(super) fn sweep(transaction: &Transaction<'_>, doomed: &[i64]) -> rusqlite::Result<()> {
    let mut open = transaction
        .prepare_cached("SELECT id, swept FROM runs WHERE ended = 0 ORDER BY id DESC LIMIT ?1")?;
    let open: Vec<(i64, Option<String>)> = open
        .query_map([RUNS_KEPT], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (run, swept) in open {
        let swept = read_tally(swept.as_deref()) + count(transaction, run, Some(doomed))?;
        transaction
            .prepare_cached("UPDATE runs SET swept = ?2 WHERE id = ?1")?
            .execute(params![run, json!(swept).to_string()])?;
    }
    Ok(())
}

fn read_tally(text: Option<&str>) -> Tally {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Counts a run's events, all of them or those in `only`.
///
/// They are those published during the run, by itself or by no run at all, and those that one of
/// its groups had not settled when it began. One that a group wants but has not settled, or not
/// seen, is in no class.
fn count(connection: &Connection, run: i64, only: Option<&[i64]>) -> rusqlite::Result<Tally> {
    // Those few are looked up: the log may be long.
    let events = match only {
        Some(_) => "json_each(:only) o CROSS JOIN events e ON e.seq = o.value",
        None => "events e",
    };
    let mut statement = connection.prepare_cached(&format!(
        "WITH run AS (SELECT id, newest, groups FROM runs WHERE id = :run),
        mine AS (
            SELECT g.id AS id, g.cursor AS cursor, value ->> 'interest' AS interest
            FROM run, json_each(run.groups) JOIN groups g ON g.name = value ->> 'name'
        ), seen AS (
            SELECT e.id AS id, e.seq > run.newest AS new, e.rejected AS rejected,
                d.seq IS NOT NULL AND (d.attempt > 0 OR d.outcome > 0) AS delivered,
                CASE WHEN d.seq IS NOT NULL THEN d.state = 0
                     ELSE m.id IS NOT NULL AND e.seq > m.cursor AND e.rejected = 0
                          AND wants(m.interest, e.type, e.topic) END AS open,
                coalesce(d.outcome, 0) AS outcome, coalesce(d.retried, 0) AS retried
            FROM run CROSS JOIN {events} LEFT JOIN mine m
                LEFT JOIN deliveries d ON d.grp = m.id AND d.seq = e.seq
            WHERE ((e.seq > run.newest AND (e.run = run.id OR e.run IS NULL))
               OR (e.seq <= run.newest AND (d.state = 0 OR d.run >= run.id OR (d.seq IS NULL
                   AND e.seq > m.cursor AND e.rejected = 0
                   AND wants(m.interest, e.type, e.topic))))) AND :only IS :only
        ), ids AS (
            SELECT max(new) AS new, max(delivered) AS delivered, max(retried) AS retried,
                CASE WHEN max(open) THEN 0 WHEN max(rejected) THEN 4
                     ELSE max(max(outcome), 1) END AS class
            FROM seen GROUP BY id
        )
        SELECT sum(new), sum(NOT new), sum(delivered), sum(class = 2), sum(class = 3),
            sum(class = 4), sum(class = 1), sum(retried) FROM ids",
    ))?;
    let only = only.map(|seqs| json!(seqs).to_string());
    statement.query_row(named_params! { ":run": run, ":only": only }, |row| {
        let count = |i| {
            let sum: Option<i64> = row.get(i)?;
            Ok::<_, rusqlite::Error>(sum.unwrap_or(0).cast_unsigned())
        };
        Ok(Tally {
            published: count(0)?,
            carried: count(1)?,
            delivered: count(2)?,
            succeeded: count(3)?,
            failed: count(4)?,
            dead_lettered: count(5)?,
            unmatched: count(6)?,
            retried: count(7)?,
        })
    })
}

/// Tells whether none of these groups has an unsettled event that this program wants.
pub(super) fn is_idle(
    connection: &Connection,
    groups: &[(String, Interest)],
) -> rusqlite::Result<bool> {
    // One snapshot: what one group's handler publishes to another is not missed between looks.
    let connection = &connection.unchecked_transaction()?;
    let mut unsettled = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM deliveries d JOIN events e ON e.seq = d.seq
             WHERE d.grp = ?1 AND d.state = 0 AND wants(?2, e.type, e.topic))
           OR EXISTS (SELECT 1 FROM events e, groups g WHERE g.id = ?1 AND e.seq > g.cursor
             AND e.rejected = 0 AND wants(?2, e.type, e.topic))",
    )?;
    for (name, interest) in groups {
        let Some(id) = id_of(connection, name)? else { continue };
        if unsettled.query_row(params![id, write_interest(interest)], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}
