//! Accounts: what became of a run's events, counted from what is stored.

use super::groups::{id_of, newest, write_interest};
use crate::{
    backend::{RunMark, Tally},
    clock::Timestamp,
    predicate::Interest,
};
use rusqlite::{Connection, Transaction, named_params, params};
use serde_json::{Value, json};

/// Begins a run.
pub(super) fn begin(transaction: &Transaction<'_>) -> rusqlite::Result<RunMark> {
    transaction
        .execute("INSERT INTO runs (began_at) VALUES (?1)", [Timestamp::now().as_micros()])?;
    Ok(RunMark { run: transaction.last_insert_rowid(), newest: newest(transaction)? })
}

/// Counts the outcomes of a run's events, each id by its worst.
///
/// The events of a run are those published during it, by itself or by no run at all, and those
/// that one of its groups had not settled when it began. One a group wants but has not settled,
/// or not seen, is in no class.
pub(super) fn tally(
    connection: &Connection,
    run: RunMark,
    groups: &[(String, Interest)],
) -> rusqlite::Result<Tally> {
    let mine = groups_json(connection, groups)?;
    let mut statement = connection.prepare_cached(
        "WITH mine AS (
            SELECT value ->> 'id' AS id, value ->> 'interest' AS interest FROM json_each(:mine)
        ), seen AS (
            SELECT e.id AS id, e.seq > :newest AS new, e.rejected AS rejected,
                d.seq IS NOT NULL AND (d.attempt > 0 OR d.outcome > 0) AS delivered,
                CASE WHEN d.seq IS NOT NULL THEN d.state = 0
                     ELSE m.id IS NOT NULL AND e.seq > g.cursor AND e.rejected = 0
                          AND wants(m.interest, e.type, e.topic) END AS open,
                coalesce(d.outcome, 0) AS outcome, coalesce(d.retried, 0) AS retried
            FROM events e LEFT JOIN mine m LEFT JOIN groups g ON g.id = m.id
                LEFT JOIN deliveries d ON d.grp = m.id AND d.seq = e.seq
            WHERE (e.seq > :newest AND (e.run = :run OR e.run IS NULL))
               OR (e.seq <= :newest AND (d.state = 0 OR d.run >= :run OR (d.seq IS NULL
                   AND e.seq > g.cursor AND e.rejected = 0 AND wants(m.interest, e.type, e.topic))))
        ), ids AS (
            SELECT max(new) AS new, max(delivered) AS delivered, max(retried) AS retried,
                CASE WHEN max(open) THEN 0 WHEN max(rejected) THEN 4
                     ELSE max(max(outcome), 1) END AS class
            FROM seen GROUP BY id
        )
        SELECT sum(new), sum(NOT new), sum(delivered), sum(class = 2), sum(class = 3),
            sum(class = 4), sum(class = 1), sum(retried) FROM ids",
    )?;
    let about = named_params! { ":newest": run.newest, ":run": run.run, ":mine": mine };
    statement.query_row(about, |row| {
        let count = |i| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(i)?.unwrap_or(0).cast_unsigned())
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

/// Writes the program's groups as JSON, for statements to read as a table.
fn groups_json(connection: &Connection, groups: &[(String, Interest)]) -> rusqlite::Result<String> {
    let mut rows = Vec::new();
    for (name, interest) in groups {
        if let Some(id) = id_of(connection, name)? {
            rows.push(json!({ "id": id, "interest": write_interest(interest) }));
        }
    }
    Ok(Value::Array(rows).to_string())
}
