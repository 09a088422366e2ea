//! Retention: what is settled goes after a while, so that the file doesn't grow for ever.

use crate::clock::Timestamp;
use rusqlite::{Transaction, params};
use std::time::Duration;

/// How many events one transaction removes, so that others wait only briefly.
const SWEEP_MAX: i64 = 1000;

/// Removes events that were published and settled longer than `retention` ago; tells whether
/// there may be more.
///
/// Kept are events that a group has not settled or not seen although it wants them, and events
/// with dead letters.
pub(super) fn sweep(transaction: &Transaction<'_>, retention: Duration) -> rusqlite::Result<bool> {
    let cutoff = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let cutoff = Timestamp::now().as_micros().saturating_sub(cutoff);
    let mut doomed = transaction.prepare_cached(
        "SELECT e.seq FROM events e WHERE e.at < ?1
         AND NOT EXISTS (SELECT 1 FROM groups g JOIN deliveries d ON d.grp = g.id AND d.seq = e.seq
             WHERE d.state = 0 OR d.settled_at >= ?1)
         AND NOT EXISTS (SELECT 1 FROM letters l WHERE l.seq = e.seq)
         AND NOT EXISTS (SELECT 1 FROM groups g WHERE g.cursor < e.seq AND e.rejected = 0
             AND wants(g.interest, e.type, e.topic))
         ORDER BY e.seq LIMIT ?2",
    )?;
    let doomed: Vec<i64> = doomed
        .query_map(params![cutoff, SWEEP_MAX], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if !doomed.is_empty() {
        super::accounts::sweep(transaction, &doomed)?;
    }
    let mut delivered = transaction.prepare_cached(
        "DELETE FROM deliveries WHERE seq = ?1 AND grp IN (SELECT id FROM groups)",
    )?;
    let mut event = transaction.prepare_cached("DELETE FROM events WHERE seq = ?1")?;
    for seq in &doomed {
        delivered.execute([seq])?;
        event.execute([seq])?;
    }
    Ok(i64::try_from(doomed.len()) == Ok(SWEEP_MAX))
}
