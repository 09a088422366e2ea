//! Claiming: which events a member of a group gets next, leased to it.

use super::{
    groups::{latest_run, newest, read_interest},
    keys::{Keys, NEVER},
    timeline::Timeline,
};
use crate::{
    backend::{Leased, Receipt, SharedFilter, Undecodable},
    backends::record::{ends, lengthen},
    clock::Timestamp,
    codec,
    delivery::Try,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::{collections::HashSet, time::Duration};

/// How many new events one transaction looks at, so that a long backlog nobody here wants does
/// not hold the write lock.
const SCAN_MAX: i64 = 4096;

/// How many rows that are due but wait for their key one transaction sets aside.
const PARK_MAX: usize = 4096;

/// How many bytes of events one claim leases, the last one over: memory stays bounded however large
/// the events are.
pub(super) const BYTES_MAX: usize = 8 << 20;

/// A member of a group, as the store sees it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) group: i64,
    pub(super) lease: Duration,
    pub(super) timeline: Timeline,
    /// What this member can handle.
    pub(super) wants: SharedFilter,
}

/// What a look at the store says about a group.
#[derive(Debug, PartialEq)]
pub(super) enum Look {
    /// There may be something to claim.
    Ready,
    /// Nothing before this time, unless something is published.
    Wait(Option<Timestamp>),
    /// The group was pruned.
    Gone,
}

/// Looks whether a claim could find anything, without writing.
pub(super) fn look(connection: &Connection, group: i64, now: Timestamp) -> rusqlite::Result<Look> {
    let cursor = connection
        .prepare_cached("SELECT cursor FROM groups WHERE id = ?1")?
        .query_row([group], |row| row.get::<_, i64>(0))
        .optional()?;
    let Some(cursor) = cursor else { return Ok(Look::Gone) };
    if newest(connection)? > cursor {
        return Ok(Look::Ready);
    }
    let due = connection
        .prepare_cached(
            "SELECT due FROM deliveries WHERE grp = ?1 AND state = 0 ORDER BY due LIMIT 1",
        )?
        .query_row([group], |row| row.get(0))
        .optional()?;
    match due.filter(|due| *due < NEVER).map(Timestamp::from_micros) {
        Some(due) if due <= now => Ok(Look::Ready),
        due => Ok(Look::Wait(due)),
    }
}

/// Leases up to `max` events: first those that are due again, then new ones.
///
/// The second value tells whether there may be more to find right now.
pub(super) fn claim(
    transaction: &Transaction<'_>,
    member: &Member,
    max: usize,
) -> rusqlite::Result<(Vec<Leased>, bool)> {
    let now = member.timeline.now();
    let mut claimed = Claimed { leased: Vec::new(), bytes: 0, max };
    let mut keys = Keys::of(transaction, member.group, now)?;
    let more = claim_due(transaction, member, now, &mut keys, &mut claimed)?;
    let news = claim_new(transaction, member, now, &mut keys, &mut claimed)?;
    Ok((claimed.leased, more || news))
}

/// What is claimed so far.
struct Claimed {
    leased: Vec<Leased>,
    bytes: usize,
    max: usize,
}

impl Claimed {
    fn is_full(&self) -> bool {
        self.leased.len() == self.max || self.bytes >= BYTES_MAX
    }
}

fn claim_due(
    transaction: &Transaction<'_>,
    member: &Member,
    now: Timestamp,
    keys: &mut Keys<'_>,
    claimed: &mut Claimed,
) -> rusqlite::Result<bool> {
    let mut due = transaction.prepare_cached(
        "SELECT d.seq, e.type, e.topic, d.attempt, d.fence, d.leased, d.finished, d.history, e.body,
            d.key, d.begun
         FROM deliveries d JOIN events e ON e.seq = d.seq
         WHERE d.grp = ?1 AND d.state = 0 AND d.due <= ?2 ORDER BY d.due, d.seq",
    )?;
    let (mut found, mut parked, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut more = false;
    let mut rows = due.query(params![member.group, now.as_micros()])?;
    while let Some(row) = rows.next()? {
        more = parked.len() == PARK_MAX;
        if more || found.len() == claimed.max || bytes >= BYTES_MAX {
            break;
        }
        let key = row.get_ref(9)?.as_str_or_null()?;
        if member.wants.matches(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?) {
            let seq: i64 = row.get(0)?;
            if keys.hold(key, seq, row.get(10)?)? {
                bytes += row.get_ref(8)?.as_blob()?.len();
                found.push(again(row)?);
            } else {
                parked.push(seq);
            }
        }
    }
    drop(rows);
    keys.park(&parked)?;
    let mut lease = transaction.prepare_cached(
        "UPDATE deliveries SET due = ?3, leased = 1, begun = 1, attempt = ?4, fence = ?5, history = ?6,
         retried = retried OR ?4 > 1 WHERE grp = ?1 AND seq = ?2",
    )?;
    let until = now.after(member.lease).as_micros();
    for Again { leased, history } in found {
        let Receipt { place, fence, .. } = leased.receipt;
        let (place, fence) = (place.cast_signed(), fence.cast_signed());
        lease.execute(params![member.group, place, until, leased.attempt, fence, history])?;
        claimed.leased.push(leased);
    }
    claimed.bytes = bytes;
    Ok(more)
}

struct Again {
    leased: Leased,
    history: Option<String>,
}

/// Reads an event that was delivered before; a lease that ran out was a failed try.
fn again(row: &Row<'_>) -> rusqlite::Result<Again> {
    let (attempt, fence): (u32, i64) = (row.get(3)?, row.get(4)?);
    let mut history: Option<String> = row.get(7)?;
    let lost = row.get::<_, bool>(5)?;
    if lost {
        let lost = Try {
            attempt,
            at: Timestamp::now(),
            subscription: String::new(),
            reason: "the lease ran out unsettled: the process died, or hung".into(),
        };
        history = lengthen(history.as_deref(), &[lost]);
    }
    let finished: Option<String> = row.get(6)?;
    let leased = Leased {
        receipt: Receipt {
            place: row.get::<_, i64>(0)?.cast_unsigned(),
            fence: (fence + 1).cast_unsigned(),
            token: None,
        },
        event: decode(row.get(8)?),
        attempt: attempt.saturating_add(1),
        lost,
        finished: finished_names(finished.as_deref()),
        only: None,
    };
    Ok(Again { leased, history })
}

fn finished_names(finished: Option<&str>) -> Vec<String> {
    finished.map(ends).unwrap_or_default().into_keys().collect()
}

fn decode(body: Vec<u8>) -> Result<crate::event::Event, Undecodable> {
    let raw = Bytes::from(body);
    codec::decode(&raw).map_err(|error| Undecodable { raw, error })
}

/// Moves the group's cursor over new events, leasing what this member wants and leaving what
/// other members want for them.
fn claim_new(
    transaction: &Transaction<'_>,
    member: &Member,
    now: Timestamp,
    keys: &mut Keys<'_>,
    claimed: &mut Claimed,
) -> rusqlite::Result<bool> {
    let group = transaction
        .prepare_cached("SELECT cursor, interest FROM groups WHERE id = ?1")?
        .query_row([member.group], |row| Ok((row.get::<_, i64>(0)?, read_interest(row, 1)?)))
        .optional()?;
    let Some((start, interest)) = group else { return Ok(false) };
    let union = interest.compile();
    // Only after a replay: some of what lies ahead is known already.
    let known = known_beyond(transaction, member.group, start)?;
    let mut new = transaction.prepare_cached(
        "SELECT seq, type, topic, due, rejected, body, key FROM events WHERE seq > ?1
         ORDER BY seq LIMIT ?2",
    )?;
    let until = now.after(member.lease).as_micros();
    let (mut cursor, mut seen, mut full) = (start, 0, false);
    let mut runs = Runs::default();
    let mut rows = new.query(params![start, SCAN_MAX])?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let (event_type, topic) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let due: Option<i64> = row.get(3)?;
        let held = due.filter(|due| *due > now.as_micros());
        let rejected: bool = row.get(4)?;
        let mine = !rejected && held.is_none() && member.wants.matches(event_type, topic);
        full = mine && claimed.is_full();
        if full {
            break;
        }
        let wanted = mine || (!rejected && union.matches(event_type, topic));
        if known.contains(&seq) || !wanted {
            runs.skip();
        } else if let Some(due) = held {
            runs.add(Run { first: seq, last: seq, due, leased: false });
        } else if !keys.hold_new(row.get_ref(6)?.as_str_or_null()?)? {
            runs.add(Run { first: seq, last: seq, due: NEVER, leased: false });
        } else if mine {
            runs.add(Run { first: seq, last: seq, due: until, leased: true });
            let body: Vec<u8> = row.get(5)?;
            claimed.bytes += body.len();
            claimed.leased.push(first(seq, body));
        } else {
            runs.add(Run { first: seq, last: seq, due: 0, leased: false });
        }
        (cursor, seen) = (seq, seen + 1);
    }
    drop(rows);
    runs.store(transaction, member.group, keys.are_kept())?;
    if !full && seen < SCAN_MAX {
        // The newest may be gone by retention; it need not be looked for again.
        cursor = cursor.max(newest(transaction)?);
    }
    if cursor > start {
        transaction
            .prepare_cached("UPDATE groups SET cursor = ?2, seen = ?3 WHERE id = ?1")?
            .execute(params![member.group, cursor, Timestamp::now().as_micros()])?;
    }
    Ok(seen == SCAN_MAX)
}

/// Returns the events behind `cursor` that the group has rows for.
fn known_beyond(
    transaction: &Transaction<'_>,
    group: i64,
    cursor: i64,
) -> rusqlite::Result<HashSet<i64>> {
    let mut known = transaction.prepare_cached(
        "SELECT seq FROM deliveries WHERE grp = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    known.query_map(params![group, cursor, SCAN_MAX], |row| row.get(0))?.collect()
}

/// Events that follow each other in the log and are marked alike: one statement for all of them.
struct Run {
    first: i64,
    last: i64,
    due: i64,
    leased: bool,
}

/// What a claim marks.
#[derive(Default)]
struct Runs {
    runs: Vec<Run>,
    // Whether an event that is not marked lies behind the last.
    ended: bool,
}

impl Runs {
    fn add(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if !self.ended && (last.due, last.leased) == (run.due, run.leased) => {
                last.last = run.last;
            }
            _ => self.runs.push(run),
        }
        self.ended = false;
    }

    fn skip(&mut self) {
        self.ended = true;
    }

    /// Inserts a row for each event. `run` and `settled_at` are filled so that the row is as long as
    /// once it is settled: that is then written in place.
    fn store(self, transaction: &Transaction<'_>, group: i64, keyed: bool) -> rusqlite::Result<()> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let mut insert = transaction.prepare_cached(
            "INSERT OR FAIL INTO deliveries (grp, seq, due, leased, begun, attempt, fence, run,
                 settled_at, key)
             SELECT ?1, seq, ?4, ?5, ?5, ?5, ?5, ?6, 2, iif(?7, key, NULL) FROM events
             WHERE seq BETWEEN ?2 AND ?3",
        )?;
        let run = latest_run(transaction)?;
        for Run { first, last, due, leased } in self.runs {
            insert.execute(params![group, first, last, due, leased, run, keyed])?;
        }
        Ok(())
    }
}

/// Writes down that a member of the group is there, though it has nothing to do.
pub(super) fn touch(transaction: &Transaction<'_>, group: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE groups SET seen = ?2 WHERE id = ?1")?
        .execute(params![group, Timestamp::now().as_micros()])?;
    Ok(())
}

fn first(seq: i64, body: Vec<u8>) -> Leased {
    Leased {
        receipt: Receipt { place: seq.cast_unsigned(), fence: 1, token: None },
        event: decode(body),
        attempt: 1,
        lost: false,
        finished: Vec::new(),
        only: None,
    }
}
