//! Settling: what became of leased events.

use super::record::{ends, lengthen, outcome_of, tries_of};
use crate::{
    backend::{Settle, Verdict},
    clock::Timestamp,
    delivery::End,
};
use rusqlite::{OptionalExtension, Transaction, params};
use std::{sync::Arc, time::Duration};

/// Settles leases of a group; false for each that was lost.
pub(super) fn settle(
    transaction: &Transaction<'_>,
    group: i64,
    lease: Duration,
    batch: &[Settle],
) -> rusqlite::Result<Vec<bool>> {
    let now = Timestamp::now();
    let run = latest_run(transaction)?;
    let settle = |settle: &Settle| match settle {
        Settle { verdict: Verdict::Ack, ended, failed, .. }
            if failed.is_empty() && plain(ended) =>
        {
            ack_plain(transaction, group, settle, now, run)
        }
        _ => settle_fully(transaction, group, lease, settle, now, run),
    };
    batch.iter().map(settle).collect()
}

/// Whether nothing is worth keeping but the outcome: one subscription, through without failure.
fn plain(ended: &[(Arc<str>, End)]) -> bool {
    matches!(ended, [] | [(_, End::Done | End::Unmatched)])
}

fn latest_run(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let run = transaction
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'runs'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(run.unwrap_or(0))
}

fn ack_plain(
    transaction: &Transaction<'_>,
    group: i64,
    settle: &Settle,
    now: Timestamp,
    run: i64,
) -> rusqlite::Result<bool> {
    let outcome =
        settle.ended.first().map_or_else(|| outcome_of(&End::Done), |(_, end)| outcome_of(end));
    let changed = transaction
        .prepare_cached(
            "UPDATE deliveries SET state = 1, leased = 0, outcome = max(outcome, ?4),
             retried = retried OR ?7, run = ?5, settled_at = ?6
             WHERE grp = ?1 AND seq = ?2 AND fence = ?3 AND state = 0 AND leased = 1",
        )?
        .execute(params![
            group,
            settle.receipt.place.cast_signed(),
            settle.receipt.fence.cast_signed(),
            outcome,
            run,
            now.as_micros(),
            settle.retried,
        ])?;
    Ok(changed == 1)
}

struct Row {
    attempt: u32,
    outcome: i64,
    finished: Option<String>,
    history: Option<String>,
}

/// Reads what is stored of a lease; none if it was lost.
fn leased_row(
    transaction: &Transaction<'_>,
    group: i64,
    seq: i64,
    fence: i64,
) -> rusqlite::Result<Option<Row>> {
    transaction
        .prepare_cached(
            "SELECT attempt, outcome, finished, history FROM deliveries
             WHERE grp = ?1 AND seq = ?2 AND fence = ?3 AND state = 0 AND leased = 1",
        )?
        .query_row(params![group, seq, fence], |row| {
            Ok(Row {
                attempt: row.get(0)?,
                outcome: row.get(1)?,
                finished: row.get(2)?,
                history: row.get(3)?,
            })
        })
        .optional()
}

fn settle_fully(
    transaction: &Transaction<'_>,
    group: i64,
    lease: Duration,
    settle: &Settle,
    now: Timestamp,
    run: i64,
) -> rusqlite::Result<bool> {
    let (seq, fence) = (settle.receipt.place.cast_signed(), settle.receipt.fence.cast_signed());
    let row = leased_row(transaction, group, seq, fence)?;
    let Some(row) = row else { return Ok(false) };
    let history = lengthen(row.history.as_deref(), &settle.failed);
    let mut ends = row.finished.as_deref().map(ends).unwrap_or_default();
    ends.extend(settle.ended.iter().map(|(name, end)| (name.to_string(), end.clone())));
    let outcome = settle.ended.iter().map(|(_, end)| outcome_of(end)).fold(row.outcome, i64::max);
    for (subscription, end) in &settle.ended {
        if let End::Dead(reason) = end {
            let (tries, latest) = tries_of(history.as_deref(), subscription);
            let attempts = latest.unwrap_or(row.attempt);
            let letter = (seq, group, &**subscription, &**reason, attempts, tries, now.as_micros());
            insert_letter(transaction, letter)?;
        }
    }
    let (state, leased, due, attempt) = match settle.verdict {
        Verdict::Ack => (1, false, 0, row.attempt),
        Verdict::Nack { delay } => (0, false, now.after(delay).as_micros(), row.attempt),
        Verdict::Extend { tries } => {
            (0, true, now.after(lease).as_micros(), row.attempt.saturating_add(tries))
        }
        Verdict::Release { delay } => {
            // The past, so that it comes before what was never delivered.
            let due = if delay.is_zero() { 0 } else { now.after(delay).as_micros() };
            (0, false, due, row.attempt.saturating_sub(1))
        }
    };
    let settled = (state == 1).then_some(now.as_micros());
    transaction
        .prepare_cached(
            "UPDATE deliveries SET state = ?3, leased = ?4, due = ?5, attempt = ?6, outcome = ?7,
             finished = ?8, history = ?9, settled_at = ?10, run = ?11,
             retried = retried OR ?12 OR ?6 > 1 WHERE grp = ?1 AND seq = ?2",
        )?
        .execute(params![
            group,
            seq,
            state,
            leased,
            due,
            attempt,
            outcome,
            (!ends.is_empty()).then(|| serde_json::to_string(&ends).ok()).flatten(),
            history,
            settled,
            settled.map(|_| run),
            settle.retried,
        ])?;
    Ok(true)
}

type NewLetter<'a> = (i64, i64, &'a str, &'a str, u32, Option<String>, i64);

fn insert_letter(transaction: &Transaction<'_>, letter: NewLetter<'_>) -> rusqlite::Result<()> {
    let (seq, group, subscription, reason, attempts, history, at) = letter;
    transaction
        .prepare_cached(
            "INSERT INTO letters (seq, grp, subscription, reason, attempts, history, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![seq, group, subscription, reason, attempts, history, at])?;
    Ok(())
}
