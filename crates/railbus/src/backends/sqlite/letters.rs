//! Dead letters: listed, handed back, deleted.

use crate::{
    backend::{Letter, LetterFilter, LetterId},
    backends::record::{ends, outcome_of},
    clock::Timestamp,
    codec,
    topic::Pattern,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

/// Lists the letters that `filter` takes, oldest first.
pub(super) fn list(
    connection: &Connection,
    filter: &LetterFilter,
) -> rusqlite::Result<Vec<Letter>> {
    let mut statement = connection.prepare_cached(
        "SELECT l.id, e.id, e.type, e.topic, e.body, e.rejected, g.name, l.subscription, l.reason,
            l.attempts, l.at, l.history
         FROM letters l JOIN events e ON e.seq = l.seq LEFT JOIN groups g ON g.id = l.grp
         WHERE (?1 IS NULL OR l.id = ?1) AND (?2 IS NULL OR e.id = ?2)
           AND (?3 IS NULL OR g.name = ?3) AND (?4 IS NULL OR l.subscription = ?4)
           AND (?5 IS NULL OR instr(l.reason, ?5) > 0)
           AND (?6 IS NULL OR l.at >= ?6)
         ORDER BY l.id",
    )?;
    let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new);
    let (types, topics) = (pattern(&filter.event_type), pattern(&filter.topic));
    let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut rows = statement.query(params![
        filter.id.as_ref().map(number),
        filter.event_id,
        filter.group,
        filter.subscription,
        filter.reason,
        filter.since.map(Timestamp::as_micros),
    ])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let matches = |p: &Option<Pattern>, column| -> rusqlite::Result<bool> {
            let name = row.get_ref(column)?.as_str()?;
            Ok(p.as_ref().is_none_or(|p| p.matches(name)))
        };
        if letters.len() >= limit {
            break;
        }
        if matches(&types, 2)? && matches(&topics, 3)? {
            letters.push(read(row)?);
        }
    }
    Ok(letters)
}

/// Returns the number of a letter; what is no number is no letter of this store.
fn number(id: &LetterId) -> i64 {
    id.as_str().parse().unwrap_or(-1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Letter> {
    let history: Option<String> = row.get(11)?;
    Ok(Letter {
        id: LetterId::new(row.get::<_, i64>(0)?.to_string()),
        event_id: row.get(1)?,
        event_type: row.get(2)?,
        topic: row.get(3)?,
        event: codec::decode(&Bytes::from(row.get::<_, Vec<u8>>(4)?)).ok(),
        group: row.get(6)?,
        subscription: row.get(7)?,
        reason: row.get(8)?,
        attempts: row.get(9)?,
        at: Timestamp::from_micros(row.get(10)?),
        history: history.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    })
}

/// Hands letters back, each to the one subscription it failed in; tells how many.
///
/// Left alone are letters that are gone, lines that never became an event, and events that
/// another subscription of the group is still working on. An event that waits to be tried anew,
/// such as one handed back to another subscription just before, takes this one up as well.
pub(super) fn redrive(transaction: &Transaction<'_>, ids: &[LetterId]) -> rusqlite::Result<u64> {
    let mut redriven = 0;
    for id in ids {
        let found = transaction
            .prepare_cached(
                "SELECT l.grp, l.seq, l.subscription, d.finished FROM letters l
                 JOIN deliveries d ON d.grp = l.grp AND d.seq = l.seq
                 WHERE l.id = ?1 AND (d.state = 1 OR (d.leased = 0 AND d.attempt = 0))",
            )?
            .query_row([number(id)], |row| {
                let finished: Option<String> = row.get(3)?;
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(2)?,
                    finished,
                ))
            })
            .optional()?;
        let Some((group, seq, subscription, finished)) = found else { continue };
        let mut others = finished.as_deref().map(ends).unwrap_or_default();
        others.remove(&subscription);
        // Tries of a run that has ended are none of the next one's.
        let worst = others.values().map(outcome_of).max().unwrap_or(0);
        transaction
            .prepare_cached(
                "UPDATE deliveries SET state = 0, leased = 0, begun = 0, due = 0, attempt = 0,
                 outcome = ?3, finished = ?4, history = NULL, settled_at = NULL, run = NULL,
                 retried = retried AND EXISTS (SELECT 1 FROM runs
                     WHERE runs.id = deliveries.run AND runs.ended = 0)
                 WHERE grp = ?1 AND seq = ?2",
            )?
            .execute(params![
                group,
                seq,
                worst,
                (!others.is_empty()).then(|| serde_json::to_string(&others).ok()).flatten(),
            ])?;
        delete(transaction, id)?;
        redriven += 1;
    }
    Ok(redriven)
}

/// Deletes letters for ever; tells how many there were.
pub(super) fn purge(transaction: &Transaction<'_>, ids: &[LetterId]) -> rusqlite::Result<u64> {
    ids.iter().map(|id| delete(transaction, id)).sum()
}

fn delete(transaction: &Transaction<'_>, id: &LetterId) -> rusqlite::Result<u64> {
    let mut statement = transaction.prepare_cached("DELETE FROM letters WHERE id = ?1")?;
    Ok(u64::try_from(statement.execute([number(id)])?).unwrap_or(0))
}

/// A letter's event, group, subscription, reason, attempts, history and time.
type NewLetter<'a> = (i64, i64, &'a str, &'a str, u32, Option<String>, i64);

/// Keeps a letter.
pub(super) fn insert(transaction: &Transaction<'_>, letter: NewLetter<'_>) -> rusqlite::Result<()> {
    let (seq, group, subscription, reason, attempts, history, at) = letter;
    transaction
        .prepare_cached(
            "INSERT INTO letters (seq, grp, subscription, reason, attempts, history, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![seq, group, subscription, reason, attempts, history, at])?;
    Ok(())
}
