//! Retention: what is settled goes after a while, so that the file doesn't grow for ever.

use super::timeline::Timeline;
use crate::clock::Timestamp;
use rusqlite::{Transaction, params};
use std::time::Duration;

/// How many events one transaction looks at, so that others wait only briefly.
pub(super) const SWEEP_MAX: i64 = 1000;

/// What one transaction came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Swept {
    /// Where to go on; none at the end of what is old enough.
    pub(super) next: Option<i64>,
    /// How many events it removed.
    pub(super) removed: usize,
}

/// Removes what is to go among the events behind `place`.
///
/// Events go once they were published and settled longer than `retention` ago. Kept are those
/// that a group has not settled, or not seen although it wants them, and those with dead letters, and
/// those that are held back still.
pub(super) fn sweep(
    transaction: &Transaction<'_>,
    timeline: &Timeline,
    retention: Duration,
    place: i64,
) -> rusqlite::Result<Swept> {
    let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let now = Timestamp::now().as_micros();
    let cutoff = now.saturating_sub(retention);
    let settled = timeline.now().as_micros().saturating_sub(retention);
    // A cross join goes by groups first: else all deliveries there are might be gone through for each.
    let mut look = transaction.prepare_cached(
        "SELECT e.seq, e.at, coalesce(e.due, 0) < ?2 AND NOT EXISTS (SELECT 1 FROM groups g
                CROSS JOIN deliveries d ON d.grp = g.id AND d.seq = e.seq
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
    Ok(Swept { next: (seen == SWEEP_MAX).then_some(last), removed: doomed.len() })
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

#[cfg(test)]
mod tests {
    use super::{
        super::{file::define_wants, schema::MIGRATIONS, timeline::System},
        *,
    };
    use rusqlite::Connection;
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    };

    /// Runs a step over a store in which 2,000 events may go, all settled, and so many stay that are
    /// younger, while a run is open; returns what it came to, and its cost in thousands of SQLite's
    /// instructions.
    fn step(young: u64) -> (Swept, u64) {
        let mut store = Connection::open_in_memory().unwrap();
        define_wants(&store).unwrap();
        MIGRATIONS.iter().for_each(|migration| store.execute_batch(migration).unwrap());
        let now = Timestamp::now().as_micros();
        let fill = format!(
            "INSERT INTO groups (name, interest, cursor, seen) VALUES ('g', '{{}}', 1000000, 0);
             INSERT INTO runs (began_at, groups) VALUES (0, '[{{\"name\":\"g\",\"interest\":\"{{}}\"}}]');
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000 + {young})
             INSERT INTO events (id, type, topic, at, body)
             SELECT n, 't', 't', CASE WHEN n <= 2000 THEN 0 ELSE {now} END, x'' FROM n;
             INSERT INTO deliveries (grp, seq, state, due, leased, attempt, fence, outcome, settled_at)
             SELECT 1, seq, 1, 0, 0, 1, 1, 2, at FROM events"
        );
        store.execute_batch(&fill).unwrap();
        let work = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&work);
        let counting = move || {
            count.fetch_add(1, SeqCst);
            false
        };
        store.progress_handler(1000, Some(counting)).unwrap();
        let transaction = store.transaction().unwrap();
        let timeline = Timeline::join(&transaction, Arc::new(System)).unwrap();
        let swept = sweep(&transaction, &timeline, Duration::from_secs(60), 0).unwrap();
        (swept, work.load(SeqCst))
    }

    #[test]
    fn a_step_costs_the_same_however_much_there_is_that_stays() {
        let (few, many) = (step(1_000), step(50_000));
        let expected = Swept { next: Some(1000), removed: 1000 };
        assert_eq!((&few.0, &many.0), (&expected, &expected));
        assert!(many.1 < few.1 * 3 / 2, "thousands of instructions: {} and {}", few.1, many.1);
    }
}
