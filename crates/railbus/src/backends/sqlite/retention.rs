//! Retention: what is settled goes after a while, so that the file doesn't grow for ever.

use super::timeline::Timeline;
use crate::clock::Timestamp;
use rusqlite::{Transaction, params};
use std::time::Duration;

/// How many events one transaction looks at, so that others wait only briefly.
const SWEEP_MAX: i64 = 1000;

/// Removes what is to go among the events behind `place`, and returns the place to go on from;
/// none at the end of what is old enough.
///
/// Events go once they were published and settled longer than `retention` ago. Kept are those
/// that a group has not settled, or not seen although it wants them, and those with dead letters, and
/// those that are held back still.
pub(super) fn sweep(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    retention: Duration,
    place: i64,
) -> rusqlite::Result<Option<i64>> {
    let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let now = Timestamp::now().as_micros();
    let cutoff = now.saturating_sub(retention);
    let settled = timeline.now().as_micros().saturating_sub(retention);
    let mut look = transaction.prepare_cached(
        "SELECT e.seq, e.at, coalesce(e.due, 0) < ?2 AND NOT EXISTS (SELECT 1 FROM groups g
                JOIN deliveries d ON d.grp = g.id AND d.seq = e.seq
                WHERE d.state = 0 OR d.settled_at >= ?2)
            AND NOT EXISTS (SELECT 1 FROM letters l WHERE l.seq = e.seq)
            AND NOT EXISTS (SELECT 1 FROM groups g WHERE g.cursor < e.seq AND e.rejected = 0
                AND wants(g.interest, e.type, e.topic))
         FROM events e WHERE e.seq > ?1 ORDER BY e.seq LIMIT ?3",
    )?;
    let (mut doomed, mut last, mut seen) = (Vec::new(), place, 0);
    let mut rows = look.query(params![place, settled, SWEEP_MAX])?;
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(1)?;
        if at >= cutoff && at <= now {
            // Later ones are younger. One from the future tells of a clock that was wrong.
            break;
        }
        last = row.get(0)?;
        seen += 1;
        if at < cutoff && row.get(2)? {
            doomed.push(last);
        }
    }
    drop(rows);
    remove(transaction, &doomed)?;
    Ok((seen == SWEEP_MAX).then_some(last))
}

fn remove(transaction: &Transaction<'_>, doomed: &[i64]) -> rusqlite::Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    super::accounts::sweep(transaction, doomed)?;
    let mut delivered = transaction.prepare_cached(
        "DELETE FROM deliveries WHERE seq = ?1 AND grp IN (SELECT id FROM groups)",
    )?;
    let mut event = transaction.prepare_cached("DELETE FROM events WHERE seq = ?1")?;
    for seq in doomed {
        delivered.execute([seq])?;
        event.execute([seq])?;
    }
    Ok(())
}
