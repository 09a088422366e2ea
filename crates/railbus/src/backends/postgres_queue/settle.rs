//! Settling: what became of leased events, a statement for all that are alike.

use super::{
    claim::Member,
    lines::{Lines, Value},
    resolve::{rank, resolve},
    settings::micros,
};
use crate::{
    backend::{Settle, Verdict},
    delivery::End,
    error::Result,
};
use std::sync::Arc;
use tokio_postgres::types::Type;

/// Settles leases of a member's group; false for each that was lost.
pub(super) async fn settle(
    lines: &Arc<Lines>,
    member: &Member,
    batch: &[Settle],
) -> Vec<Result<bool>> {
    let mut results: Vec<Result<bool>> = vec![Ok(false); batch.len()];
    let (mut acks, mut renewals, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for (at, settle) in batch.iter().enumerate() {
        let place = settle.receipt.place.cast_signed();
        let fence = settle.receipt.fence.cast_signed();
        match plain(settle) {
            Some(Plain::Ack(outcome)) => {
                acks.push(One { at, place, like: (fence, outcome, settle.retried) });
            }
            Some(Plain::Renewal) => renewals.push(One { at, place, like: (fence, 0, false) }),
            None => rest.push((at, settle.clone())),
        }
    }
    if !acks.is_empty() {
        let runs = Runs::of(acks);
        note(&mut results, &runs, acknowledge(lines, member, &runs).await);
    }
    if !renewals.is_empty() {
        let runs = Runs::of(renewals);
        note(&mut results, &runs, renew(lines, member, &runs).await);
    }
    if !rest.is_empty() {
        let (places, settles): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
        let kept = resolve(lines, member, settles).await;
        for (nth, at) in places.into_iter().enumerate() {
            results[at] = kept.as_ref().map(|kept| kept[nth]).map_err(Clone::clone);
        }
    }
    results
}

/// A settlement with nothing worth keeping but what it is.
enum Plain {
    Ack(i16),
    Renewal,
}

fn plain(settle: &Settle) -> Option<Plain> {
    match (&settle.verdict, &*settle.failed, &*settle.ended) {
        (Verdict::Ack, [], []) => Some(Plain::Ack(rank(&End::Done))),
        (Verdict::Ack, [], [(_, end @ (End::Done | End::Unmatched))]) => {
            Some(Plain::Ack(rank(end)))
        }
        (Verdict::Extend { tries: 0 }, [], []) => Some(Plain::Renewal),
        _ => None,
    }
}

/// One of a batch.
struct One {
    at: usize,
    place: i64,
    // Its fence, its outcome, and whether anything in it was retried.
    like: (i64, i16, bool),
}

/// Places that are settled alike, as lists that the server takes.
struct Runs {
    fences: Vec<i64>,
    outcomes: Vec<i16>,
    retried: Vec<bool>,
    spans: Vec<String>,
    // Which of the batch each stands for.
    members: Vec<Vec<One>>,
}

impl Runs {
    fn of(mut all: Vec<One>) -> Self {
        all.sort_unstable_by_key(|one| (one.like, one.place));
        let mut runs = Self {
            fences: Vec::new(),
            outcomes: Vec::new(),
            retried: Vec::new(),
            spans: Vec::new(),
            members: Vec::new(),
        };
        for one in all {
            if runs.members.last().is_none_or(|members| members[0].like != one.like) {
                let (fence, outcome, retried) = one.like;
                runs.fences.push(fence);
                runs.outcomes.push(outcome);
                runs.retried.push(retried);
                runs.members.push(vec![one]);
            } else if let Some(members) = runs.members.last_mut() {
                members.push(one);
            }
        }
        runs.spans = runs.members.iter().map(|members| write_spans(members)).collect();
        runs
    }
}

/// Writes places as the server's multirange, in the form in which it writes them itself.
fn write_spans(members: &[One]) -> String {
    let mut text = String::from("{");
    for run in members.chunk_by(|a, b| b.place - a.place <= 1) {
        let [first, .., last] = run else {
            text += &format!("{}[{},{})", comma(&text), run[0].place, run[0].place + 1);
            continue;
        };
        text += &format!("{}[{},{})", comma(&text), first.place, last.place + 1);
    }
    text + "}"
}

fn comma(text: &str) -> &'static str {
    if text.len() == 1 { "" } else { "," }
}

/// Reads a multirange of places.
fn read_spans(text: &str) -> Vec<(i64, i64)> {
    let inner = text.trim_matches(|c| c == '{' || c == '}');
    let spans = inner.split_terminator(')').filter_map(|span| {
        let (low, high) = span.trim_start_matches([',', '[']).split_once(',')?;
        Some((low.parse().ok()?, high.parse().ok()?))
    });
    spans.collect()
}

/// Writes down which of the places were held still.
fn note(results: &mut [Result<bool>], runs: &Runs, kept: Result<Vec<String>>) {
    match kept {
        Ok(kept) => {
            for ((members, sent), kept) in runs.members.iter().zip(&runs.spans).zip(kept) {
                let spans = read_spans(&kept);
                for one in members {
                    let inside = |(low, high): &(i64, i64)| (*low..*high).contains(&one.place);
                    results[one.at] = Ok(*sent == kept || spans.iter().any(inside));
                }
            }
        }
        Err(e) => {
            for one in runs.members.iter().flatten() {
                results[one.at] = Err(e.clone());
            }
        }
    }
}

async fn acknowledge(lines: &Lines, member: &Member, runs: &Runs) -> Result<Vec<String>> {
    let values: [Value<'_>; 5] = [
        (&member.group, Type::INT4),
        (&runs.fences, Type::INT8_ARRAY),
        (&runs.spans, Type::TEXT_ARRAY),
        (&runs.outcomes, Type::INT2_ARRAY),
        (&runs.retried, Type::BOOL_ARRAY),
    ];
    let rows = lines.query("settle", "SELECT @.settle($1, $2, $3, $4, $5)", &values).await?;
    Ok(rows.iter().map(|row| row.try_get(0).unwrap_or_default()).collect())
}

async fn renew(lines: &Lines, member: &Member, runs: &Runs) -> Result<Vec<String>> {
    let lease = micros(member.lease);
    let values: [Value<'_>; 4] = [
        (&member.group, Type::INT4),
        (&runs.fences, Type::INT8_ARRAY),
        (&runs.spans, Type::TEXT_ARRAY),
        (&lease, Type::INT8),
    ];
    let rows = lines.query("settle", "SELECT @.extend($1, $2, $3, $4)", &values).await?;
    Ok(rows.iter().map(|row| row.try_get(0).unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(places: &[i64]) -> Vec<One> {
        places.iter().map(|place| One { at: 0, place: *place, like: (1, 2, false) }).collect()
    }

    #[test]
    fn places_are_written_as_ranges_and_read_back() {
        assert_eq!(write_spans(&ones(&[1, 2, 3, 9, 11, 12])), "{[1,4),[9,10),[11,13)}");
        assert_eq!(read_spans("{[1,4),[9,10),[11,13)}"), [(1, 4), (9, 10), (11, 13)]);
        assert_eq!(write_spans(&ones(&[5, 5])), "{[5,6)}");
        assert_eq!(read_spans("{}"), []);
    }

    #[test]
    fn what_is_settled_alike_goes_together() {
        let like = |place, like| One { at: 0, place, like };
        let runs = Runs::of(vec![
            like(3, (7, 2, false)),
            like(1, (7, 2, false)),
            like(2, (7, 1, false)),
            like(4, (8, 2, false)),
        ]);
        assert_eq!(runs.fences, [7, 7, 8]);
        assert_eq!(runs.outcomes, [1, 2, 2]);
        assert_eq!(runs.spans, ["{[2,3)}", "{[1,2),[3,4)}", "{[4,5)}"]);
    }
}
