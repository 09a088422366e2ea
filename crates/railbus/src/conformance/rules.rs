//! The second oracle: what a history must not contain.

use super::{
    finding::{Broken, Checked, ensure},
    history::{Delivered, Record, What},
};
use crate::backend::{Capability, Fencing, Ordering, Receipt, Release, Verdict};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

/// What clocks may differ by: a store counts in wall time, a history in monotonic time.
pub(super) const SLACK: Duration = Duration::from_millis(2);

/// Checks everything that the backend claims against what was recorded.
pub(super) fn check(records: &[Record], capability: &Capability) -> Checked {
    let lives = lives(records)?;
    for ((group, event), life) in &lives {
        let about = |broken: Broken| broken.within(&format!("event {event} in group {group}"));
        nothing_after_its_ack(life, capability).map_err(about)?;
        no_two_live_leases(life).map_err(about)?;
        not_before_its_delay(life).map_err(about)?;
        if capability.counts_attempts {
            attempts_grow_by_one(life, capability).map_err(about)?;
        }
    }
    stopped_sources_are_silent(records)?;
    in_order(records, capability.ordering)
}

/// The deliveries of one event to one group, in order, each with what became of it.
type Life<'a> = Vec<Turn<'a>>;

struct Turn<'a> {
    begun: Duration,
    ended: Duration,
    delivered: &'a Delivered,
    settled: Vec<(Duration, Duration, &'a Verdict)>,
}

fn lives(records: &[Record]) -> Checked<BTreeMap<(&str, &str), Life<'_>>> {
    let mut lives: BTreeMap<(&str, &str), Life<'_>> = BTreeMap::new();
    let mut places: HashMap<(u64, &Receipt), (&str, &str, usize)> = HashMap::new();
    for Record { begun, ended, what } in records {
        match what {
            What::Delivered(delivered) => {
                let Some(group) = delivered.group.as_deref() else { continue };
                let life = lives.entry((group, &delivered.event)).or_default();
                let place = (group, delivered.event.as_str(), life.len());
                let before = places.insert((delivered.member, &delivered.receipt), place);
                ensure(before.is_none(), || {
                    format!("two deliveries of {} have the same receipt", delivered.event)
                })?;
                life.push(Turn { begun: *begun, ended: *ended, delivered, settled: Vec::new() });
            }
            What::Settled { member, receipt, verdict } => {
                let Some((group, event, turn)) = places.get(&(*member, receipt)) else { continue };
                let turn = lives.get_mut(&(*group, *event)).and_then(|life| life.get_mut(*turn));
                turn.into_iter().for_each(|t| t.settled.push((*begun, *ended, verdict)));
            }
            _ => {}
        }
    }
    Ok(lives)
}

fn nothing_after_its_ack(life: &Life<'_>, capability: &Capability) -> Checked {
    let acks = |turn: &Turn<'_>| {
        let acks = turn.settled.iter().filter(|(_, _, v)| **v == Verdict::Ack);
        acks.map(|(_, ended, _)| *ended).min()
    };
    let Some(acked) = life.iter().filter_map(acks).min() else { return Ok(()) };
    for turn in life {
        // A fetch that had it already when another member's ack came is that ack's fault, which
        // only a fenced one must not be.
        let since = if capability.fencing == Fencing::None { turn.begun } else { turn.ended };
        ensure(since <= acked, || {
            let attempt = turn.delivered.attempt;
            format!("delivered (attempt {attempt}) after its ack had been confirmed")
        })?;
    }
    Ok(())
}

fn no_two_live_leases(life: &Life<'_>) -> Checked {
    for (turn, next) in life.iter().zip(life.iter().skip(1)) {
        let given_back = turn.settled.iter().any(|(begun, _, verdict)| {
            !matches!(verdict, Verdict::Extend { .. }) && *begun <= next.ended
        });
        // Leased after the fetch began, so at least until then; likewise extended.
        let renewed = turn.settled.iter().filter(|(_, ended, verdict)| {
            matches!(verdict, Verdict::Extend { .. }) && *ended <= next.ended
        });
        let from = renewed.map(|(begun, _, _)| *begun).max().unwrap_or(turn.begun);
        let until = from + turn.delivered.lease;
        ensure(given_back || next.ended + SLACK >= until, || {
            format!(
                "delivered to member {} at {:?} while member {} had it until {until:?} or later",
                next.delivered.member, next.ended, turn.delivered.member
            )
        })?;
    }
    Ok(())
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

fn attempts_grow_by_one(life: &Life<'_>, capability: &Capability) -> Checked {
    let mut expected = 1;
    for turn in life {
        let attempt = turn.delivered.attempt;
        ensure(attempt == expected, || {
            format!("delivered as attempt {attempt}, but it is attempt {expected}")
        })?;
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
            What::Stopped { member } => {
                stopped.entry(*member).or_insert(*ended);
            }
            What::Delivered(d) => {
                let after = stopped.get(&d.member).is_some_and(|stop| begun > stop);
                ensure(!after, || format!("{} came from a source that was stopped", d.event))?;
            }
            // The call that stops it may still be on its way back.
            What::Empty { member } if !stopped.contains_key(member) => {
                let stops = |r: &Record| {
                    matches!(r.what, What::Stopped { member: m } if m == *member)
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

/// Where an event stands in what was published.
#[derive(Clone, Copy)]
struct Place<'a> {
    event: &'a str,
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

/// Looks at first deliveries, member by member: what two members have at the same moment has no
/// order.
fn in_order(records: &[Record], claimed: Ordering) -> Checked {
    let mut published: HashMap<&str, Place<'_>> = HashMap::new();
    for Record { begun, ended, what } in records {
        if let What::Published { event, publisher, index } = what {
            let (publisher, index) = (*publisher, *index);
            let place = Place { event, publisher, begun: *begun, ended: *ended, index };
            published.insert(event, place);
        }
    }
    let mut seen = HashSet::new();
    // By member, and where no more is claimed by publisher: what was published last so far.
    let mut latest: HashMap<(u64, u64), Place<'_>> = HashMap::new();
    for record in records {
        let What::Delivered(delivered) = &record.what else { continue };
        let Some(group) = delivered.group.as_deref() else { continue };
        let Some(place) = published.get(delivered.event.as_str()) else { continue };
        if !seen.insert((group, place.event)) {
            continue;
        }
        let publisher = match claimed {
            Ordering::Total => 0,
            Ordering::PerPublisher => place.publisher,
            // None, or among events of one key, which histories don't tell.
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

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(100);

    fn capability() -> Capability {
        let mut capability = Capability::inline("test");
        (capability.groups, capability.counts_attempts) = (true, true);
        (capability.fencing, capability.ordering) = (Fencing::Checked, Ordering::Total);
        capability
    }

    fn at(begun: u64, ended: u64, what: What) -> Record {
        let (begun, ended) = (Duration::from_millis(begun), Duration::from_millis(ended));
        Record { begun, ended, what }
    }

    fn published(time: u64, event: &str, publisher: u64, index: usize) -> Record {
        at(time, time + 1, What::Published { event: event.into(), publisher, index })
    }

    fn delivered(time: u64, event: &str, member: u64, attempt: u32) -> Record {
        let place = event.bytes().fold(0, |sum, b| sum * 256 + u64::from(b));
        let receipt = Receipt { place, fence: u64::from(attempt), token: None };
        let (event, group) = (event.into(), Some("g".into()));
        let what = Delivered { event, group, member, receipt, attempt, lease: LEASE };
        at(time, time + 1, What::Delivered(what))
    }

    /// Settles what `delivered` says.
    fn settled(time: u64, delivered: &Record, verdict: Verdict) -> Record {
        let What::Delivered(d) = &delivered.what else { panic!("{delivered:?}") };
        let (member, receipt) = (d.member, d.receipt.clone());
        at(time, time + 1, What::Settled { member, receipt, verdict })
    }

    fn refuses(records: &[Record], why: &str) {
        let broken = check(records, &capability()).expect_err("the history is doctored");
        assert!(broken.to_string().contains(why), "{broken}");
    }

    fn passes(records: &[Record]) {
        if let Err(broken) = check(records, &capability()) {
            panic!("the history is sound: {broken}");
        }
    }

    const NACK: Verdict = Verdict::Nack { delay: Duration::ZERO };
    const RELEASE: Verdict = Verdict::Release { delay: Duration::ZERO };

    #[test]
    fn a_delivery_after_its_ack_is_refused() {
        let (first, again) = (delivered(0, "a", 1, 1), delivered(200, "a", 2, 2));
        let other = delivered(202, "b", 2, 1);
        passes(&[first.clone(), settled(10, &first, Verdict::Ack), other]);
        refuses(&[first.clone(), settled(10, &first, Verdict::Ack), again], "after its ack");
    }

    #[test]
    fn two_live_leases_are_refused() {
        let (first, soon) = (delivered(0, "a", 1, 1), delivered(50, "a", 2, 2));
        passes(&[first.clone(), delivered(120, "a", 2, 2)]);
        refuses(&[first.clone(), soon.clone()], "while member 1 had it");
        passes(&[first.clone(), settled(20, &first, NACK), soon]);
    }

    #[test]
    fn a_lease_given_away_although_it_was_extended_is_refused() {
        let first = delivered(0, "a", 1, 1);
        let extended = settled(90, &first, Verdict::Extend { tries: 0 });
        passes(&[first.clone(), extended.clone(), delivered(191, "a", 2, 2)]);
        refuses(&[first, extended, delivered(150, "a", 2, 2)], "while member 1 had it");
    }

    #[test]
    fn attempts_that_do_not_grow_by_one_are_refused() {
        let first = delivered(0, "a", 1, 1);
        passes(&[first.clone(), delivered(120, "a", 1, 2), delivered(240, "a", 1, 3)]);
        refuses(&[delivered(0, "a", 1, 2)], "as attempt 2, but it is attempt 1");
        refuses(&[first.clone(), delivered(120, "a", 1, 3)], "as attempt 3, but it is attempt 2");
        let same = delivered(120, "a", 2, 1);
        refuses(&[first.clone(), same.clone()], "as attempt 1, but it is attempt 2");
        // What was released counts for nothing; tries in place count.
        passes(&[first.clone(), settled(10, &first, RELEASE), same]);
        let extended = settled(10, &first, Verdict::Extend { tries: 2 });
        passes(&[first.clone(), extended.clone(), delivered(120, "a", 2, 4)]);
        refuses(&[first, extended, delivered(120, "a", 2, 2)], "but it is attempt 4");
    }

    #[test]
    fn a_redelivery_before_its_delay_is_refused() {
        let first = delivered(0, "a", 1, 1);
        let nacked = settled(10, &first, Verdict::Nack { delay: Duration::from_millis(80) });
        passes(&[first.clone(), nacked.clone(), delivered(90, "a", 1, 2)]);
        refuses(&[first, nacked, delivered(60, "a", 1, 2)], "held back for 80ms");
    }

    #[test]
    fn an_order_other_than_claimed_is_refused() {
        let both = [published(0, "a", 1, 0), published(10, "b", 2, 0)];
        let [a, b] = both.clone();
        passes(&[a.clone(), b.clone(), delivered(20, "a", 9, 1), delivered(22, "b", 9, 1)]);
        let turned = [a, b, delivered(20, "b", 9, 1), delivered(22, "a", 9, 1)];
        refuses(&turned, "a was published before b, but came after it");
        // Two publishers have no order between them where none is claimed.
        let claims = |ordering| {
            let mut capability = capability();
            capability.ordering = ordering;
            capability
        };
        assert!(check(&turned, &claims(Ordering::PerPublisher)).is_ok());
        // Two members have none either.
        let [a, b] = both;
        passes(&[a, b, delivered(20, "b", 9, 1), delivered(22, "a", 8, 1)]);
        let batch = [published(0, "a", 1, 0), published(0, "b", 1, 1)];
        let [a, b] = batch;
        let turned = [a, b, delivered(20, "b", 9, 1), delivered(22, "a", 9, 1)];
        assert!(check(&turned, &claims(Ordering::PerPublisher)).is_err());
        assert!(check(&turned, &claims(Ordering::None)).is_ok());
    }

    #[test]
    fn a_source_that_gives_something_after_stop_is_refused() {
        let stop = |time| at(time, time + 1, What::Stopped { member: 1 });
        passes(&[stop(20), delivered(19, "a", 1, 1)]);
        refuses(&[stop(10), delivered(20, "a", 1, 1)], "stopped");
    }

    #[test]
    fn a_fetch_that_gives_nothing_without_stop_is_refused() {
        let empty = at(0, 20, What::Empty { member: 1 });
        passes(&[at(10, 11, What::Stopped { member: 1 }), empty.clone()]);
        refuses(&[at(10, 11, What::Stopped { member: 2 }), empty], "was not stopped");
    }

    #[test]
    fn one_receipt_for_two_deliveries_is_refused() {
        let (first, mut again) = (delivered(0, "a", 1, 1), delivered(200, "a", 1, 2));
        if let (What::Delivered(first), What::Delivered(again)) = (&first.what, &mut again.what) {
            again.receipt = first.receipt.clone();
        }
        refuses(&[first, again], "the same receipt");
    }
}
