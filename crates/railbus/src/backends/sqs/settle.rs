//! Settling: what became of leased events, ten in a request.

use super::{
    dead::{self, Note, letter},
    held::Lease,
    message::whole_seconds,
    seat::{Seat, stale},
    settings::HELD_MAX,
};
use crate::{
    backend::{Settle, Verdict},
    delivery::End,
    error::{Error, ErrorKind, Result},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// What one settlement comes to: where it stands in the batch, and what it is about.
struct One<'a> {
    at: usize,
    settle: &'a Settle,
    lease: Lease,
}

/// Settles deliveries and returns one result each.
pub(super) async fn settle(seat: &Seat, batch: &[Settle]) -> Vec<Result<()>> {
    let mut results: Vec<Result<()>> = vec![Ok(()); batch.len()];
    let mut ones = Vec::with_capacity(batch.len());
    for (at, settle) in batch.iter().enumerate() {
        let lease = match settle.verdict {
            Verdict::Extend { .. } => {
                let held = seat.state().held.get(&settle.receipt);
                held.ok_or_else(|| stale(&settle.receipt))
            }
            _ => seat.take(settle),
        };
        match lease {
            Ok(lease) => ones.push(One { at, settle, lease }),
            Err(error) => results[at] = Err(error),
        }
    }
    let ones = write_letters(seat, ones, &mut results).await;
    let (acks, others): (Vec<_>, Vec<_>) =
        ones.into_iter().partition(|one| one.settle.verdict == Verdict::Ack);
    let (acked, changed) = tokio::join!(delete(seat, acks), change(seat, others));
    for (at, result) in acked.into_iter().chain(changed) {
        results[at] = result;
    }
    results
}

/// Writes the dead letters first: what can't be kept is not deleted.
async fn write_letters<'a>(
    seat: &Seat,
    ones: Vec<One<'a>>,
    results: &mut [Result<()>],
) -> Vec<One<'a>> {
    let is_dead =
        |one: &One<'_>| one.settle.ended.iter().any(|(_, end)| matches!(end, End::Dead(_)));
    if !ones.iter().any(is_dead) {
        return ones;
    }
    let (mut letters, mut of) = (Vec::new(), Vec::new());
    for one in &ones {
        for (name, end) in &one.settle.ended {
            let End::Dead(reason) = end else { continue };
            match letter(&one.lease, note(seat, one, name, reason)) {
                Ok(parcel) => {
                    letters.push(parcel);
                    of.push(one.at);
                }
                Err(error) => results[one.at] = Err(error),
            }
        }
    }
    for (at, sent) in of.iter().zip(dead::send(&seat.service, Some(&seat.group), &letters).await) {
        if let Err(error) = sent {
            results[*at] = Err(error);
        }
    }
    let (kept, failed): (Vec<_>, Vec<_>) =
        ones.into_iter().partition(|one| results[one.at].is_ok());
    for one in failed {
        put_back(seat, one.settle, one.lease);
    }
    kept
}

fn note(seat: &Seat, one: &One<'_>, subscription: &str, reason: &str) -> Note {
    let past = seat.service.directory.pasts.of(&one.lease.id);
    let mut history: Vec<_> = past.failed.iter().chain(&one.settle.failed).cloned().collect();
    history.retain(|tried| tried.subscription == subscription || tried.subscription.is_empty());
    let delivered = one.lease.attempt.saturating_sub(past.unseen).max(1) + past.tries;
    Note {
        group: Some(seat.group.clone()),
        subscription: subscription.into(),
        reason: reason.into(),
        attempts: history.last().map_or(delivered, |last| last.attempt),
        history,
        ..Note::default()
    }
}

fn put_back(seat: &Seat, settle: &Settle, lease: Lease) {
    if !matches!(settle.verdict, Verdict::Extend { .. }) {
        seat.state().held.put_back(&settle.receipt, lease);
    }
}

async fn delete(seat: &Seat, ones: Vec<One<'_>>) -> Vec<(usize, Result<()>)> {
    let receipts: Vec<_> = ones.iter().map(|one| Arc::clone(&one.lease.receipt)).collect();
    let deleted = seat.queue.delete(&receipts).await;
    let mut results = Vec::with_capacity(ones.len());
    for (one, deleted) in ones.into_iter().zip(deleted) {
        match &deleted {
            Ok(()) => seat.through(&one.lease),
            // It is another's: those behind it come after that one.
            Err(error) if error.kind() == ErrorKind::Stale => seat.again(&one.lease).await,
            Err(_) => put_back(seat, one.settle, one.lease),
        }
        results.push((one.at, deleted));
    }
    results
}

/// Changes until when events are hidden: longer for those that are kept, and for those that come again
/// until they may.
async fn change(seat: &Seat, ones: Vec<One<'_>>) -> Vec<(usize, Result<()>)> {
    let began = Instant::now();
    let (mut results, mut changes, mut changing) = (Vec::new(), Vec::new(), Vec::new());
    for one in ones {
        // From when it was received it may be held for twelve hours, and no longer.
        let left = HELD_MAX.saturating_sub(began.duration_since(one.lease.since)).as_secs();
        let asked = match one.settle.verdict {
            Verdict::Nack { delay } | Verdict::Release { delay } => whole_seconds(delay),
            _ => seat.lease.as_secs(),
        };
        let extends = matches!(one.settle.verdict, Verdict::Extend { .. });
        if extends && left < 2 {
            results.push((one.at, Err(too_long())));
            continue;
        }
        let seconds = i32::try_from(asked.min(left.saturating_sub(1))).unwrap_or(i32::MAX);
        changes.push((Arc::clone(&one.lease.receipt), seconds));
        changing.push((one, seconds));
    }
    let changed = seat.queue.hide(&changes).await;
    for ((one, seconds), changed) in changing.into_iter().zip(changed) {
        let at = one.at;
        match &changed {
            Ok(()) => note_change(seat, &one, began, seconds).await,
            Err(error) if error.kind() == ErrorKind::Stale => seat.again(&one.lease).await,
            Err(_) => put_back(seat, one.settle, one.lease),
        }
        results.push((at, changed));
    }
    results
}

/// Notes what came of a change.
async fn note_change(seat: &Seat, one: &One<'_>, began: Instant, seconds: i32) {
    let settle = one.settle;
    let pasts = &seat.service.directory.pasts;
    if !(settle.ended.is_empty() && settle.failed.is_empty()) {
        pasts.note(&one.lease.id, |past| past.add(&settle.ended, &settle.failed));
    }
    match settle.verdict {
        Verdict::Extend { tries } => {
            let until = began + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            seat.state().held.extend(&settle.receipt, until);
            if tries > 0 {
                pasts.note(&one.lease.id, |past| past.tries += tries);
            }
        }
        _ => seat.again(&one.lease).await,
    }
}

fn too_long() -> Error {
    let why = "SQS lets an event be held for twelve hours";
    Error::new(ErrorKind::Unsupported, "settle", why)
        .hint("let the handler start what takes longer, and ack")
}

/// Extends what waits for its turn, so that it is held when that comes.
pub(super) async fn extend_waiting(seat: &Seat, leases: &mut [Lease]) {
    let began = Instant::now();
    let changes: Vec<_> = leases
        .iter()
        .map(|lease| {
            let seconds = i32::try_from(seat.lease.as_secs()).unwrap_or(i32::MAX);
            (Arc::clone(&lease.receipt), seconds)
        })
        .collect();
    for (lease, came) in leases.iter_mut().zip(seat.queue.hide(&changes).await) {
        // One that is lost is found so by its time.
        if came.is_ok() {
            lease.until = began + seat.lease;
        }
    }
}
