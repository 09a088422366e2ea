//! The second oracle: what a history must not contain.

use super::{
    crash::{Crash, crashes},
    finding::{Broken, Checked, ensure, ensure_firmly},
    history::{Delivered, History, Published, Record, What, left, mixed},
};
use crate::backend::{Capability, Fencing, Ordering, Receipt, Release, Verdict};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// What clocks may differ by: a store counts in wall time, a history in monotonic time.
pub(super) const SLACK: Duration = Duration::from_millis(2);

/// Checks everything that the backend claims against what was recorded.
pub(super) fn check(history: &History, capability: &Capability) -> Checked {
    let (records, faulty) = (&history.records()[..], history.is_faulty());
    let (stored, crashes) = (stored(records), crashes(records));
    for ((group, _, event), life) in &lives(records)? {
        let stored = stored.get(event).copied().unwrap_or_default();
        let about = |broken: Broken| broken.within(&format!("event {event} in group {group}"));
        nothing_after_its_ack(life, stored, capability).map_err(about)?;
        no_two_live_leases(life, stored, &crashes).map_err(about)?;
        if stored.copies > 1 {
            first_once_each(life, stored, capability).map_err(about)?;
            continue;
        }
        not_before_its_delay(life).map_err(about)?;
        if capability.counts_attempts {
            attempts_grow(life, capability, faulty, &crashes).map_err(about)?;
        }
    }
    stopped_sources_are_silent(records)?;
    withdrawn_events_stay_away(records)?;
    // What a cut connection took with it comes again, out of its order.
    if faulty {
        return Ok(());
    }
    let published = published(records);
    in_order(records, &published, capability.ordering)?;
    keys_in_order(records, &published)
}

/// What there may be of an event in the store.
#[derive(Clone, Copy)]
struct Stored {
    /// Before which it was not there.
    since: Duration,
    /// How often it may be there: a publish of which nothing is known is made again.
    copies: usize,
}

impl Default for Stored {
    fn default() -> Self {
        Self { since: Duration::ZERO, copies: 1 }
    }
}

fn stored(records: &[Record]) -> HashMap<&str, Stored> {
    let mut stored: HashMap<&str, (Duration, usize, bool)> = HashMap::new();
    for Record { begun, what, .. } in records {
        let (event, in_doubt) = match what {
            What::Published(published) => (&published.event, false),
            What::Doubtful { event } => (event, true),
            _ => continue,
        };
        let (since, count, doubts) = stored.entry(event).or_insert((*begun, 0, false));
        (*since, *count, *doubts) = ((*since).min(*begun), *count + 1, *doubts || in_doubt);
    }
    let of = |(event, (since, count, doubts))| {
        // What was confirmed each time is looked at by the case that asks for it.
        (event, Stored { since, copies: if doubts { count } else { 1 } })
    };
    stored.into_iter().map(of).collect()
}

/// The deliveries of one event to one group, in order, each with what became of it.
type Life<'a> = Vec<Turn<'a>>;

struct Turn<'a> {
    begun: Duration,
    ended: Duration,
    delivered: &'a Delivered,
    settled: Vec<(Duration, Duration, &'a Verdict)>,
}

/// Which life: the group, how often its past has come again, and the event.
type Who<'a> = (&'a str, usize, &'a str);

fn lives(records: &[Record]) -> Checked<BTreeMap<Who<'_>, Life<'_>>> {
    let mut lives: BTreeMap<Who<'_>, Life<'_>> = BTreeMap::new();
    let mut places: HashMap<(u64, &Receipt), (Who<'_>, usize)> = HashMap::new();
    let mut anew: HashMap<&str, usize> = HashMap::new();
    for Record { begun, ended, what } in records {
        match what {
            What::Anew { group } => *anew.entry(group).or_default() += 1,
            What::Delivered(delivered) => {
                let Some(group) = delivered.group.as_deref() else { continue };
                let age = anew.get(group).copied().unwrap_or_default();
                let who = (group, age, delivered.event.as_str());
                let life = lives.entry(who).or_default();
                let place = (who, life.len());
                let before = places.insert((delivered.member, &delivered.receipt), place);
                ensure(before.is_none(), || {
                    format!("two deliveries of {} have the same receipt", delivered.event)
                })?;
                life.push(Turn { begun: *begun, ended: *ended, delivered, settled: Vec::new() });
            }
            What::Settled { member, receipt, verdict } => {
                let Some((who, turn)) = places.get(&(*member, receipt)) else { continue };
                let turn = lives.get_mut(who).and_then(|life| life.get_mut(*turn));
                turn.into_iter().for_each(|t| t.settled.push((*begun, *ended, verdict)));
            }
            _ => {}
        }
    }
    Ok(lives)
}

fn nothing_after_its_ack(life: &Life<'_>, stored: Stored, capability: &Capability) -> Checked {
    let acks = |turn: &Turn<'_>| {
        let acks = turn.settled.iter().filter(|(_, _, v)| **v == Verdict::Ack);
        acks.map(|(_, ended, _)| *ended).min()
    };
    let mut acks: Vec<_> = life.iter().filter_map(acks).collect();
    acks.sort_unstable();
    // Each copy has an ack of its own.
    let Some(acked) = acks.get(stored.copies - 1) else { return Ok(()) };
    for turn in life {
        // A fetch that had it already when another member's ack came is that ack's fault, which
        // only a fenced one must not be.
        let since = if capability.fencing == Fencing::None { turn.begun } else { turn.ended };
        ensure_firmly(since <= *acked, || {
            let attempt = turn.delivered.attempt;
            format!("delivered (attempt {attempt}) after its ack had been confirmed")
        })?;
    }
    Ok(())
}

fn no_two_live_leases(life: &Life<'_>, stored: Stored, crashes: &[Crash]) -> Checked {
    for (n, next) in life.iter().enumerate() {
        let held = (0..n).filter_map(|before| {
            let turn = &life[before];
            let given_back = turn.settled.iter().any(|(begun, _, verdict)| {
                !matches!(verdict, Verdict::Extend { .. }) && *begun <= next.ended
            });
            let since = leased_since(life, before, stored, next.ended);
            let until = since + turn.delivered.lease;
            let forgotten = crashes.iter().any(|crash| crash.forgets(since, next.ended));
            (!given_back && !forgotten && next.ended + SLACK < until).then_some((turn, until))
        });
        let Some((turn, until)) = { held }.nth(stored.copies - 1) else { continue };
        return Err(Broken::new(format!(
            "delivered to member {} at {:?} while member {} had it until {until:?} or later",
            next.delivered.member, next.ended, turn.delivered.member
        )));
    }
    Ok(())
}

/// Returns a time that a lease began after: that of its fetch, or of what must have come before
/// it. As known at `now`, which an extension in between is.
fn leased_since(life: &Life<'_>, n: usize, stored: Stored, now: Duration) -> Duration {
    let turn = &life[n];
    let renewed = turn
        .settled
        .iter()
        .filter(|(_, ended, verdict)| matches!(verdict, Verdict::Extend { .. }) && *ended <= now);
    let renewed = renewed.map(|(begun, _, _)| *begun).max();
    let before = n.checked_sub(1).filter(|_| stored.copies == 1).map(|before| &life[before]);
    let given_back = before.into_iter().flat_map(|turn| &turn.settled).filter_map(|settled| {
        let (begun, _, Verdict::Nack { delay } | Verdict::Release { delay }) = settled else {
            return None;
        };
        Some(*begun + *delay)
    });
    given_back.chain(renewed).fold(turn.begun.max(stored.since), Duration::max)
}

/// Where there may be several copies: each comes for the first time once.
fn first_once_each(life: &Life<'_>, stored: Stored, capability: &Capability) -> Checked {
    if !capability.counts_attempts {
        return Ok(());
    }
    let firsts = life.iter().filter(|turn| turn.delivered.attempt == 1).count();
    let settled = life.iter().flat_map(|turn| &turn.settled);
    let released = settled.filter(|(_, _, v)| matches!(v, Verdict::Release { .. })).count();
    let copies = stored.copies;
    ensure(firsts <= copies + released, || {
        format!("published {copies} times at most, and delivered for the first time {firsts} times")
    })
}

fn not_before_its_delay(life: &Life<'_>) -> Checked {
    for (turn, next) in life.iter().zip(life.iter().skip(1)) {
        for (begun, _, verdict) in &turn.settled {
            let (Verdict::Nack { delay } | Verdict::Release { delay }) = verdict else { continue };
            ensure(next.ended + SLACK >= *begun + *delay, || {
                let after = next.ended.saturating_sub(*begun);
                format!("came again {after:?} after it was to be held back for {delay:?}")
            })?;
        }
    }
    Ok(())
}

/// Attempts grow by one; by one at least where deliveries may be lost on their way. Those that a crash
/// has forgotten are counted once more.
fn attempts_grow(
    life: &Life<'_>,
    capability: &Capability,
    faulty: bool,
    crashes: &[Crash],
) -> Checked {
    let mut expected = 1;
    for (n, turn) in life.iter().enumerate() {
        let attempt = turn.delivered.attempt;
        let forgotten = |before: &&Turn<'_>| {
            crashes.iter().any(|crash| crash.forgets(before.ended, turn.ended))
        };
        let again = life[..n].iter().filter(forgotten).map(|before| before.delivered.attempt).min();
        let is_more = faulty && attempt > expected || again.is_some_and(|again| attempt >= again);
        ensure(attempt == expected || is_more, || {
            format!("delivered as attempt {attempt}, but it is attempt {expected}")
        })?;
        expected = attempt;
        for (_, _, verdict) in &turn.settled {
            match verdict {
                Verdict::Extend { tries } => expected += tries,
                Verdict::Release { .. } if capability.release == Release::Free => {
                    expected = expected.saturating_sub(1);
                }
                _ => {}
            }
        }
        expected += 1;
    }
    Ok(())
}

fn stopped_sources_are_silent(records: &[Record]) -> Checked {
    let mut stopped: HashMap<u64, Duration> = HashMap::new();
    for Record { begun, ended, what } in records {
        match what {
            What::Stopped { member, .. } => {
                stopped.entry(*member).or_insert(*ended);
            }
            What::Delivered(d) => {
                let after = stopped.get(&d.member).is_some_and(|stop| begun > stop);
                ensure(!after, || format!("{} came from a source that was stopped", d.event))?;
            }
            // The call that stops it may still be on its way back.
            What::Empty { member } if !stopped.contains_key(member) => {
                let stops = |r: &Record| {
                    matches!(r.what, What::Stopped { member: m, .. } if m == *member)
                        && r.begun <= *ended
                };
                ensure(records.iter().any(stops), || {
                    "a fetch returned nothing although its source was not stopped".into()
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn withdrawn_events_stay_away(records: &[Record]) -> Checked {
    let mut withdrawn = HashSet::new();
    for Record { what, .. } in records {
        match what {
            What::Withdrawn { event } => drop(withdrawn.insert(event.as_str())),
            What::Delivered(Delivered { event, .. }) => {
                ensure(!withdrawn.contains(event.as_str()), || {
                    format!("{event} was withdrawn, and came")
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where an event stands in what was published.
#[derive(Clone, Copy)]
struct Place<'a> {
    event: &'a str,
    key: Option<&'a str>,
    publisher: u64,
    begun: Duration,
    ended: Duration,
    index: usize,
}

impl Place<'_> {
    /// Tells whether it was surely published before `other`: in an earlier call, or earlier in
    /// the same one.
    fn is_before(&self, other: &Self) -> bool {
        let call = |place: &Self| (place.publisher, place.begun);
        if call(self) == call(other) { self.index < other.index } else { self.ended < other.begun }
    }
}

/// Returns where each event stands that was not to come later.
fn published(records: &[Record]) -> HashMap<&str, Place<'_>> {
    let mut published: HashMap<&str, Place<'_>> = HashMap::new();
    for Record { begun, ended, what } in records {
        let What::Published(Published { event, key, publisher, index, delayed: false }) = what
        else {
            continue;
        };
        let (publisher, index, key) = (*publisher, *index, key.as_deref());
        let place = Place { event, key, publisher, begun: *begun, ended: *ended, index };
        // What is published again is where it was published first.
        published.entry(event).or_insert(place);
    }
    published
}

/// Looks at first deliveries, member by member: what two members have at the same moment has no
/// order.
fn in_order(
    records: &[Record],
    published: &HashMap<&str, Place<'_>>,
    claimed: Ordering,
) -> Checked {
    let (mut seen, mixed, left) = (HashSet::new(), mixed(records), left(records));
    // By member, and where no more is claimed by publisher: what was published last so far.
    let mut latest: HashMap<(u64, u64), Place<'_>> = HashMap::new();
    for record in records {
        let What::Delivered(delivered) = &record.what else { continue };
        let Some(place) = published.get(delivered.event.as_str()) else { continue };
        // A group's events come once, a broadcast's once to each who listens.
        let group = delivered.group.as_deref().ok_or(delivered.member);
        // Where keys are kept in order, one may hold up what was published before others.
        if !seen.insert((group, place.event)) || delivered.by_key {
            continue;
        }
        let since = delivered.group.as_deref().and_then(|group| left.get(group));
        let is_late = since.is_some_and(|since| *since <= record.ended);
        if claimed == Ordering::Alike && (is_late || mixed.contains(&delivered.group.as_deref())) {
            continue;
        }
        let publisher = match claimed {
            Ordering::Total | Ordering::Alike => 0,
            Ordering::PerPublisher => place.publisher,
            // None, or among events of one key.
            _ => return Ok(()),
        };
        let last = latest.entry((delivered.member, publisher)).or_insert(*place);
        ensure(!place.is_before(last), || {
            format!("{} was published before {}, but came after it", place.event, last.event)
        })?;
        if (last.begun, last.index) < (place.begun, place.index) {
            *last = *place;
        }
    }
    Ok(())
}

/// Looks at groups that keep the order of keys: of each key one event at a time, the next one when
/// the one before it is settled, in the order they were published.
fn keys_in_order(records: &[Record], published: &HashMap<&str, Place<'_>>) -> Checked {
    let mut acks: HashMap<(u64, &Receipt), Duration> = HashMap::new();
    for Record { begun, what, .. } in records {
        if let What::Settled { member, receipt, verdict: Verdict::Ack } = what {
            acks.insert((*member, receipt), *begun);
        }
    }
    // By group and key: the event that was delivered last, and its lease.
    type Leased<'a> = (Place<'a>, (u64, &'a Receipt));
    let mut last: HashMap<(&str, &str), Leased<'_>> = HashMap::new();
    for record in records {
        let What::Delivered(delivered) = &record.what else { continue };
        let Delivered { event, group: Some(group), by_key: true, member, receipt, .. } = delivered
        else {
            continue;
        };
        let Some(place) = published.get(event.as_str()) else { continue };
        let Some(key) = place.key else { continue };
        let now = (*place, (*member, receipt));
        let Some((before, lease)) = last.insert((group, key), now) else { continue };
        if before.event == place.event {
            continue;
        }
        // The call that settled it may still be on its way back.
        let settled = acks.get(&lease).is_some_and(|begun| *begun <= record.ended);
        ensure(settled, || {
            format!("{event} came while {} of its key {key} was not settled", before.event)
        })?;
        ensure(!place.is_before(&before), || {
            format!("{event} was published before {} of its key, but came after", before.event)
        })?;
    }
    Ok(())
}
