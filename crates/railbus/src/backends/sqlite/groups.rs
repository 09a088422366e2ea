//! Groups: what they want, how far they are, and what is left of them.

use super::keys::keep_order;
use crate::{
    backend::{GroupInfo, Order, Start},
    clock::Timestamp,
    predicate::Interest,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params, types::Type};

/// Opens a group, creating it at `start`, adds `interest` to what it wants and keeps the order of
/// its keys if that is asked for; returns its row.
pub(super) fn open(
    transaction: &Transaction<'_>,
    name: &str,
    interest: &Interest,
    (start, order): (Start, Order),
) -> rusqlite::Result<i64> {
    let id = join(transaction, name, interest, start)?;
    if order == Order::ByKey {
        keep_order(transaction, id)?;
    }
    Ok(id)
}

fn join(
    transaction: &Transaction<'_>,
    name: &str,
    interest: &Interest,
    start: Start,
) -> rusqlite::Result<i64> {
    let found = transaction
        .query_row("SELECT id, interest FROM groups WHERE name = ?1", [name], |row| {
            Ok((row.get::<_, i64>(0)?, read_interest(row, 1)?))
        })
        .optional()?;
    if let Some((id, mut union)) = found {
        if union.add(interest) {
            transaction.execute(
                "UPDATE groups SET interest = ?2 WHERE id = ?1",
                params![id, write_interest(&union)],
            )?;
        }
        return Ok(id);
    }
    let cursor = before(transaction, start)?;
    transaction.execute(
        "INSERT INTO groups (name, interest, cursor, seen) VALUES (?1, ?2, ?3, ?4)",
        params![name, write_interest(interest), cursor, Timestamp::now().as_micros()],
    )?;
    Ok(transaction.last_insert_rowid())
}

/// Returns the place right before `start`.
fn before(connection: &Connection, start: Start) -> rusqlite::Result<i64> {
    match start {
        Start::Oldest => Ok(0),
        Start::Newest => newest(connection),
        Start::At(time) => {
            let first = connection
                .query_row(
                    "SELECT seq FROM events WHERE at >= ?1 ORDER BY seq LIMIT 1",
                    [time.as_micros()],
                    |row| row.get::<_, i64>(0),
                )
                .optional()?;
            first.map_or_else(|| newest(connection), |seq| Ok(seq - 1))
        }
    }
}

/// Returns the place of the newest event ever stored.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let found = connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(0))
}

/// Returns the run that began last.
pub(super) fn latest_run(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let run = transaction
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(run.unwrap_or(0))
}

pub(super) fn write_interest(interest: &Interest) -> String {
    // Texts and options of texts always encode.
    serde_json::to_string(interest).unwrap_or_else(|_| "[{}]".into())
}

pub(super) fn read_interest(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Interest> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// Lists the groups by name.
pub(super) fn list(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<GroupInfo>> {
    let mut statement = connection.prepare(
        "SELECT name, interest, seen,
            (SELECT count(*) FROM deliveries d WHERE d.grp = g.id AND d.state = 0)
              + (SELECT count(*) FROM events e WHERE e.seq > g.cursor AND e.rejected = 0
                 AND wants(g.interest, e.type, e.topic)),
            (SELECT count(*) FROM deliveries d WHERE d.grp = g.id AND d.state = 0
             AND d.leased = 1 AND d.due > ?1),
            (SELECT count(*) FROM letters l WHERE l.grp = g.id)
         FROM groups g ORDER BY name",
    )?;
    let rows = statement.query_map([now.as_micros()], |row| {
        Ok(GroupInfo {
            name: row.get(0)?,
            interest: read_interest(row, 1)?,
            last_seen: Timestamp::from_micros(row.get(2)?),
            lag: row.get::<_, i64>(3)?.cast_unsigned(),
            leased: row.get::<_, i64>(4)?.cast_unsigned(),
            dead_letters: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    })?;
    rows.collect()
}

pub(super) fn id_of(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM groups WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Forgets a group with its place, its unsettled events and its dead letters; false if there is
/// none of that name.
pub(super) fn prune(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<bool> {
    let Some(id) = id_of(transaction, name)? else { return Ok(false) };
    for part in [
        "DELETE FROM letters WHERE grp = ?1",
        "DELETE FROM deliveries WHERE grp = ?1",
        "DELETE FROM groups WHERE id = ?1",
    ] {
        transaction.execute(part, [id])?;
    }
    Ok(true)
}

/// Lets a group see again what it has settled since `start`; what it has not settled, or not seen
/// yet, stays as it is.
///
/// Settled rows are opened anew instead of deleted: their fences count on, so that a lease from
/// before can't settle the event again.
pub(super) fn replay(
    transaction: &Transaction<'_>,
    name: &str,
    start: Start,
) -> rusqlite::Result<Option<u64>> {
    let Some(id) = id_of(transaction, name)? else { return Ok(None) };
    let place = before(transaction, start)?;
    let opened = transaction.execute(
        "UPDATE deliveries SET state = 0, due = 0, leased = 0, begun = 0, attempt = 0,
             outcome = 0, retried = 0, run = NULL, settled_at = NULL, finished = NULL, history = NULL
         WHERE grp = ?1 AND seq > ?2 AND state = 1",
        params![id, place],
    )?;
    // Events that the group did not want when it passed them have no row.
    let missed: i64 = transaction.query_row(
        "SELECT count(*) FROM events e, groups g WHERE g.id = ?1 AND e.seq > ?2
         AND e.seq <= g.cursor AND e.rejected = 0 AND wants(g.interest, e.type, e.topic)
         AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.grp = g.id AND d.seq = e.seq)",
        params![id, place],
        |row| row.get(0),
    )?;
    transaction
        .execute("UPDATE groups SET cursor = min(cursor, ?2) WHERE id = ?1", params![id, place])?;
    Ok(Some(opened as u64 + missed.cast_unsigned()))
}
