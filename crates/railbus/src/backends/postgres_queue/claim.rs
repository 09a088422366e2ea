//! Claiming: which events a member of a group gets next, leased to it.

use super::{lines::Lines, settings::micros, wants::Wants};
use crate::{
    backend::{Leased, Receipt, Undecodable},
    backends::{postgres::fault, record::ends},
    clock::Timestamp,
    codec,
    error::Result,
    event::Event,
};
use bytes::Bytes;
use std::time::Duration;
use tokio_postgres::{Row, types::Type};

/// How many bytes of events one claim leases, the last one over: memory stays bounded however large
/// the events are.
pub(super) const BYTES_MAX: i64 = 8 << 20;

/// How far before now a look for leases that have run out begins. What has run out earlier was
/// found by an earlier look, unless it was claimed by someone who was held up for longer; a full
/// look now and then finds that.
const SINCE: &str = "@.now_micros() - 10000000";

/// A member of a group, as the server sees it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) group: i32,
    pub(super) lease: Duration,
    /// What this member can handle.
    pub(super) wants: Wants,
}

/// How far a claim looks beside what is new and due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// No further.
    No,
    /// For leases that ran out just now, and when something will be due.
    Lately,
    /// For all leases that ran out.
    Full,
}

/// What a claim came to.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) leased: Vec<Leased>,
    pub(super) next: Next,
    /// How long the server took for a full look itself; what the claim waited for is not in it.
    pub(super) took: Duration,
    /// After what of that which is due the next claim goes on, if not all was looked at.
    pub(super) seen: Seen,
}

/// Up to where a member has looked through what is due, of which much may be for others: when that
/// was due, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen(i64, i64);

impl Default for Seen {
    /// Nothing was looked at.
    fn default() -> Self {
        Self(-1, 0)
    }
}

impl Seen {
    fn read(text: &str) -> Option<Self> {
        let (due, place) = text.split_once(' ')?;
        Some(Self(due.parse().ok()?, place.parse().ok()?))
    }
}

/// When to claim next, if nothing was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At once: not all was looked at.
    Now,
    /// When this time is over, or on news.
    In(Duration),
    /// On news.
    OnNews,
    /// Never: the group was pruned.
    Gone,
}

/// Leases up to `max` events: first those that are due again, then new ones.
pub(super) async fn claim(
    lines: &Lines,
    member: &Member,
    max: usize,
    look: Look,
    seen: Seen,
) -> Result<Claimed> {
    let since = match look {
        Look::No => "NULL",
        Look::Lately => SINCE,
        Look::Full => "0",
    };
    let statement = format!("SELECT * FROM @.claim($1, $2, $3, $4, $5, $6, $7, {since}, $8, $9)");
    let fence = new_fence();
    let (lease, most) = (micros(member.lease), i32::try_from(max).unwrap_or(i32::MAX));
    let values: [super::lines::Value<'_>; 9] = [
        (&member.group, Type::INT4),
        (&fence, Type::INT8),
        (&lease, Type::INT8),
        (&member.wants.types, Type::TEXT_ARRAY),
        (&member.wants.topics, Type::TEXT_ARRAY),
        (&most, Type::INT4),
        (&BYTES_MAX, Type::INT8),
        (&seen.0, Type::INT8),
        (&seen.1, Type::INT8),
    ];
    let rows = lines.query("fetch", &statement, &values).await?;
    read(&rows, fence).map_err(|e| fault("fetch", &lines.shown, e))
}

fn read(rows: &[Row], fence: i64) -> Result<Claimed, tokio_postgres::Error> {
    let mut claimed = Claimed {
        leased: Vec::with_capacity(rows.len()),
        next: Next::OnNews,
        took: Duration::ZERO,
        seen: Seen::default(),
    };
    for row in rows {
        let place: i64 = row.try_get(0)?;
        if place == 0 {
            let seen = row.try_get::<_, Option<&str>>(3)?.and_then(Seen::read);
            claimed.seen = seen.unwrap_or_default();
            let took = u64::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default();
            claimed.took = Duration::from_millis(took);
            claimed.next = match row.try_get::<_, Option<i64>>(5)? {
                None => Next::OnNews,
                Some(0) => Next::Now,
                Some(wait) => u64::try_from(wait)
                    .map_or(Next::Gone, |wait| Next::In(Duration::from_micros(wait))),
            };
            continue;
        }
        let finished: Option<&str> = row.try_get(3)?;
        claimed.leased.push(Leased {
            receipt: Receipt {
                place: place.cast_unsigned(),
                fence: fence.cast_unsigned(),
                token: None,
            },
            event: decode(row.try_get(4)?),
            attempt: u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or(1),
            lost: row.try_get(2)?,
            finished: finished.map(ends).unwrap_or_default().into_keys().collect(),
            only: None,
        });
    }
    Ok(claimed)
}

/// Reads an event; what is none is kept as it is.
pub(super) fn decode(body: &[u8]) -> Result<Event, Undecodable> {
    let raw = Bytes::copy_from_slice(body);
    codec::decode(&raw).map_err(|error| Undecodable { raw, error })
}

/// Makes a number that no other claim has: the time, and chance below it.
///
/// One drawn from the server could come again after a crash there: a claim does not wait for the
/// disk.
fn new_fence() -> i64 {
    let chance = i64::from(rand::random::<u16>() >> 4);
    (Timestamp::now().as_micros() << 12 | chance) & i64::MAX
}
