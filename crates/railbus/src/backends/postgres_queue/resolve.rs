//! Settling where there is more to tell: failures, redeliveries, dead letters.

use super::{
    claim::Member,
    lines::{Lines, Value},
    publish::clean,
    settings::micros,
};
use crate::{
    backend::{Settle, Verdict},
    backends::{
        postgres::fault,
        record::{ends, lengthen, outcome_of, tries_of},
    },
    clock::Timestamp,
    delivery::End,
    error::Result,
};
use futures_util::FutureExt;
use std::sync::Arc;
use tokio_postgres::{Row, types::Type};

/// Ranks how a subscription got through, as the server keeps it.
pub(super) fn rank(end: &End) -> i16 {
    i16::try_from(outcome_of(end)).unwrap_or(i16::MAX)
}

/// Settles single events, all in one transaction; false for each whose lease was lost.
pub(super) async fn resolve(
    lines: &Arc<Lines>,
    member: &Member,
    settles: Vec<Settle>,
) -> Result<Vec<bool>> {
    let (group, lease) = (member.group, micros(member.lease));
    let operation = "settle";
    lines
        .transact(operation, move |lines, session| {
            async move {
                let fences: Vec<i64> =
                    settles.iter().map(|s| s.receipt.fence.cast_signed()).collect();
                let places: Vec<i64> =
                    settles.iter().map(|s| s.receipt.place.cast_signed()).collect();
                let values: [Value<'_>; 3] = [
                    (&group, Type::INT4),
                    (&fences, Type::INT8_ARRAY),
                    (&places, Type::INT8_ARRAY),
                ];
                let hold = lines.sql("SELECT * FROM @.hold($1, $2, $3)");
                let rows = session.query(operation, &hold, &values).await?;
                let (mut kept, mut told) = (vec![false; settles.len()], Told::default());
                for row in &rows {
                    let held = Held::read(row)
                        .map_err(|e| fault(operation, &lines.shown, e))?;
                    let Some(settle) = settles.get(held.nth) else { continue };
                    // A lease that was renewed in part has two rows.
                    if !std::mem::replace(&mut kept[held.nth], true) {
                        told.add(settle, &held);
                    }
                }
                let letters = lines.sql(
                    "INSERT INTO @.letters (seq, grp, place, subscription, reason, attempts, history, at)
                     SELECT l.seq, $1, l.place, l.subscription, l.reason, l.attempts, l.history, l.at
                     FROM unnest($2, $3, $4, $5, $6, $7, $8)
                         AS l (seq, place, subscription, reason, attempts, history, at)",
                );
                if !told.letters.seqs.is_empty() {
                    session.query(operation, &letters, &told.letters.values(&group)).await?;
                }
                let resolve = lines.sql(
                    "SELECT @.resolve($1, r.fence, r.place, r.seq, r.what, r.delay, $2, r.attempts,
                         r.worst, r.retried, r.ends, r.tries)
                     FROM unnest($3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS r
                         (fence, place, seq, what, delay, attempts, worst, retried, ends, tries)",
                );
                if !told.fences.is_empty() {
                    session.query(operation, &resolve, &told.values(&group, &lease)).await?;
                }
                Ok(kept)
            }
            .boxed()
        })
        .await
}

/// What is stored of a lease that is held still.
struct Held {
    // Which of the batch.
    nth: usize,
    seq: i64,
    attempt: i32,
    outcome: i16,
    retried: bool,
    finished: Option<String>,
    history: Option<String>,
}

impl Held {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let nth: i64 = row.try_get(0)?;
        Ok(Self {
            nth: usize::try_from(nth - 1).unwrap_or(usize::MAX),
            seq: row.try_get::<_, Option<i64>>(1)?.unwrap_or(0),
            attempt: row.try_get(2)?,
            outcome: row.try_get(3)?,
            retried: row.try_get(4)?,
            finished: row.try_get(5)?,
            history: row.try_get(6)?,
        })
    }
}

/// What the server is told, as lists.
#[derive(Default)]
struct Told {
    fences: Vec<i64>,
    places: Vec<i64>,
    seqs: Vec<i64>,
    whats: Vec<i32>,
    delays: Vec<i64>,
    attempts: Vec<i32>,
    worst: Vec<i16>,
    retried: Vec<bool>,
    ends: Vec<Option<String>>,
    tries: Vec<Option<String>>,
    letters: Letters,
}

impl Told {
    fn add(&mut self, settle: &Settle, held: &Held) {
        let place = settle.receipt.place.cast_signed();
        let history = lengthen(held.history.as_deref(), &settle.failed).map(|text| escape(&text));
        let mut all = held.finished.as_deref().map(ends).unwrap_or_default();
        all.extend(settle.ended.iter().map(|(name, end)| (name.to_string(), end.clone())));
        let worst = settle.ended.iter().map(|(_, end)| rank(end)).fold(held.outcome, i16::max);
        for (subscription, end) in &settle.ended {
            if let End::Dead(reason) = end {
                let (tries, latest) = tries_of(history.as_deref(), subscription);
                let attempts = latest.and_then(|n| i32::try_from(n).ok()).unwrap_or(held.attempt);
                let letters = &mut self.letters;
                letters.seqs.push(held.seq);
                letters.places.push(place);
                letters.subscriptions.push(clean(subscription));
                letters.reasons.push(clean(reason));
                letters.attempts.push(attempts);
                letters.histories.push(tries.map(|text| escape(&text)));
                letters.ats.push(Timestamp::now().as_micros());
            }
        }
        let (what, delay, attempts) = match settle.verdict {
            Verdict::Ack => (0, 0, held.attempt),
            Verdict::Nack { delay } => (1, micros(delay), held.attempt),
            Verdict::Extend { tries } => {
                (2, 0, held.attempt.saturating_add(i32::try_from(tries).unwrap_or(i32::MAX)))
            }
            Verdict::Release { delay } => {
                // The past, so that it comes before what was never delivered.
                let delay = if delay.is_zero() { -1 } else { micros(delay) };
                (1, delay, held.attempt.saturating_sub(1))
            }
        };
        self.fences.push(settle.receipt.fence.cast_signed());
        self.places.push(place);
        self.seqs.push(held.seq);
        self.whats.push(what);
        self.delays.push(delay);
        self.attempts.push(attempts);
        self.worst.push(worst);
        self.retried.push(held.retried || settle.retried);
        let named = (!all.is_empty()).then(|| serde_json::to_string(&all).ok()).flatten();
        self.ends.push(named.map(|text| escape(&text)));
        self.tries.push(history);
    }

    fn values<'a>(&'a self, group: &'a i32, lease: &'a i64) -> [Value<'a>; 12] {
        [
            (group, Type::INT4),
            (lease, Type::INT8),
            (&self.fences, Type::INT8_ARRAY),
            (&self.places, Type::INT8_ARRAY),
            (&self.seqs, Type::INT8_ARRAY),
            (&self.whats, Type::INT4_ARRAY),
            (&self.delays, Type::INT8_ARRAY),
            (&self.attempts, Type::INT4_ARRAY),
            (&self.worst, Type::INT2_ARRAY),
            (&self.retried, Type::BOOL_ARRAY),
            (&self.ends, Type::TEXT_ARRAY),
            (&self.tries, Type::TEXT_ARRAY),
        ]
    }
}

/// New dead letters, as lists.
#[derive(Default)]
struct Letters {
    seqs: Vec<i64>,
    places: Vec<i64>,
    subscriptions: Vec<String>,
    reasons: Vec<String>,
    attempts: Vec<i32>,
    histories: Vec<Option<String>>,
    ats: Vec<i64>,
}

impl Letters {
    fn values<'a>(&'a self, group: &'a i32) -> [Value<'a>; 8] {
        [
            (group, Type::INT4),
            (&self.seqs, Type::INT8_ARRAY),
            (&self.places, Type::INT8_ARRAY),
            (&self.subscriptions, Type::TEXT_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.attempts, Type::INT4_ARRAY),
            (&self.histories, Type::TEXT_ARRAY),
            (&self.ats, Type::INT8_ARRAY),
        ]
    }
}

/// Replaces, in JSON, the one character that the server's JSON can't have.
fn escape(json: &str) -> String {
    json.replace("\\u0000", "\\ufffd")
}
