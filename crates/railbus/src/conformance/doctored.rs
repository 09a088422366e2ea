//! Histories that are doctored, and beside them sound ones.

use super::{
    history::{Delivered, History, Published, Record, What},
    rules::check,
};
use crate::backend::{Capability, Fencing, Ordering, Receipt, Verdict};
use std::time::Duration;

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
    let event = event.into();
    let published = Published { event, key: None, publisher, index, delayed: false };
    at(time, time + 1, What::Published(published))
}

fn delivered(time: u64, event: &str, member: u64, attempt: u32) -> Record {
    let place = event.bytes().fold(0, |sum, b| sum * 256 + u64::from(b));
    let receipt = Receipt { place, fence: u64::from(attempt), token: None };
    let (event, group) = (event.into(), Some("g".into()));
    let what = Delivered {
        event,
        group,
        member,
        receipt,
        attempt,
        lease: LEASE,
        by_key: false,
        wants: "".into(),
    };
    at(time, time + 1, What::Delivered(what))
}

/// Settles what `delivered` says.
fn settled(time: u64, delivered: &Record, verdict: Verdict) -> Record {
    let What::Delivered(d) = &delivered.what else { panic!("{delivered:?}") };
    let (member, receipt) = (d.member, d.receipt.clone());
    at(time, time + 1, What::Settled { member, receipt, verdict })
}

fn history(records: &[Record]) -> History {
    let history = History::new();
    records.iter().for_each(|record| history.put(record.clone()));
    history
}

fn refuses(records: &[Record], why: &str) {
    let broken = check(&history(records), &capability()).expect_err("the history is doctored");
    assert!(broken.to_string().contains(why), "{broken}");
}

fn passes(records: &[Record]) {
    if let Err(broken) = check(&history(records), &capability()) {
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
fn a_delivery_of_what_was_withdrawn_is_refused() {
    let withdrawn = at(5, 6, What::Withdrawn { event: "a".into() });
    passes(&[withdrawn.clone(), delivered(10, "b", 1, 1)]);
    refuses(&[withdrawn, delivered(10, "a", 1, 1)], "a was withdrawn, and came");
}

#[test]
fn two_live_leases_are_refused() {
    let (first, soon) = (delivered(0, "a", 1, 1), delivered(50, "a", 2, 2));
    passes(&[first.clone(), delivered(120, "a", 2, 2)]);
    refuses(&[first.clone(), soon.clone()], "while member 1 had it");
    passes(&[first.clone(), settled(20, &first, NACK), soon]);
}

#[test]
fn what_was_leased_right_before_the_server_was_killed_may_come_again_at_once() {
    let crash = |begun, ended| at(begun, ended, What::Crashed);
    let (first, soon) = (delivered(0, "a", 1, 1), delivered(50, "a", 2, 2));
    let same = delivered(50, "a", 2, 1);
    passes(&[first.clone(), crash(20, 30), soon.clone()]);
    passes(&[first.clone(), crash(20, 30), same]);
    // Not before it, nor what was leased long before; and what was confirmed is not forgotten.
    refuses(&[first.clone(), soon.clone(), crash(60, 70)], "while member 1 had it");
    let old = Delivered { lease: LEASE * 100, ..taken(&first) };
    let old = at(0, 1, What::Delivered(old));
    passes(&[old.clone(), crash(1_900, 1_910), delivered(1_950, "a", 2, 2)]);
    refuses(&[old, crash(2_200, 2_210), delivered(2_300, "a", 2, 2)], "while member 1 had it");
    let acked = settled(10, &first, Verdict::Ack);
    refuses(&[first, acked, crash(20, 30), soon], "after its ack");
}

/// Returns what a record of a delivery says.
fn taken(delivered: &Record) -> Delivered {
    let What::Delivered(taken) = &delivered.what else { panic!("{delivered:?}") };
    taken.clone()
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
fn where_connections_are_cut_a_delivery_may_be_missing_but_none_too_many() {
    let faulty = |records: &[Record]| {
        let history = history(records);
        history.expect_faults();
        check(&history, &capability())
    };
    let (first, third) = (delivered(0, "a", 1, 1), delivered(240, "a", 1, 3));
    assert!(faulty(&[first.clone(), third]).is_ok());
    assert!(faulty(&[first.clone(), delivered(240, "a", 2, 1)]).is_err());
    // Published again, since nobody knew what had become of it.
    let doubtful = at(0, 1, What::Doubtful { event: "a".into() });
    let (ack, again) = (settled(10, &first, Verdict::Ack), delivered(240, "a", 2, 1));
    let twice = [doubtful, published(5, "a", 1, 0), first.clone(), ack.clone(), again.clone()];
    assert!(faulty(&twice).is_ok());
    assert!(faulty(&[first, ack, again.clone()]).is_err());
    // As often as it was published, and no more.
    let third = [settled(250, &again, Verdict::Ack), delivered(400, "a", 3, 2)];
    assert!(faulty(&[&twice[..], &third].concat()).is_err());
    let first_again = delivered(260, "a", 3, 1);
    assert!(faulty(&[&twice[..], &[first_again]].concat()).is_err());
}

#[test]
fn a_lease_begins_when_the_event_is_there_not_with_a_fetch_that_waits_for_it() {
    let mut first = delivered(0, "a", 1, 1);
    first.ended = Duration::from_millis(301);
    passes(&[published(300, "a", 7, 0), first.clone(), delivered(401, "a", 2, 2)]);
    refuses(&[published(300, "a", 7, 0), first.clone(), delivered(310, "a", 2, 2)], "had it until");
    // Held back, and given to who waited: the lease begins anew.
    let nacked = settled(310, &first, Verdict::Nack { delay: Duration::from_millis(50) });
    let mut second = delivered(0, "a", 2, 2);
    second.ended = Duration::from_millis(362);
    let all = [published(300, "a", 7, 0), first, nacked, second, delivered(400, "a", 3, 3)];
    refuses(&all, "had it until");
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
    assert!(check(&history(&turned), &claims(Ordering::PerPublisher)).is_ok());
    // Two members have none either.
    let [a, b] = both;
    passes(&[a, b, delivered(20, "b", 9, 1), delivered(22, "a", 8, 1)]);
    let batch = [published(0, "a", 1, 0), published(0, "b", 1, 1)];
    let [a, b] = batch;
    let turned = [a, b, delivered(20, "b", 9, 1), delivered(22, "a", 9, 1)];
    assert!(check(&history(&turned), &claims(Ordering::PerPublisher)).is_err());
    assert!(check(&history(&turned), &claims(Ordering::None)).is_ok());
}

#[test]
fn what_comes_late_from_a_member_that_left_is_let_through_where_no_more_is_claimed() {
    let turned = [
        published(0, "a", 1, 0),
        published(10, "b", 1, 0),
        delivered(20, "b", 9, 1),
        delivered(40, "a", 9, 1),
    ];
    let stopped = |time, group: &str| {
        let what = What::Stopped { member: 8, group: Some(group.into()) };
        history(&[&turned[..], &[at(time, time + 1, what)]].concat())
    };
    let mut alike = capability();
    alike.ordering = Ordering::Alike;
    assert!(check(&stopped(30, "g"), &alike).is_ok());
    // Of another group, after it came, and where order is claimed whoever comes and goes.
    assert!(check(&stopped(30, "other"), &alike).is_err());
    assert!(check(&stopped(60, "g"), &alike).is_err());
    assert!(check(&stopped(30, "g"), &capability()).is_err());
}

#[test]
fn a_source_that_gives_something_after_stop_is_refused() {
    let stop = |time| at(time, time + 1, What::Stopped { member: 1, group: None });
    passes(&[stop(20), delivered(19, "a", 1, 1)]);
    refuses(&[stop(10), delivered(20, "a", 1, 1)], "stopped");
}

#[test]
fn a_fetch_that_gives_nothing_without_stop_is_refused() {
    let empty = at(0, 20, What::Empty { member: 1 });
    passes(&[at(10, 11, What::Stopped { member: 1, group: None }), empty.clone()]);
    refuses(&[at(10, 11, What::Stopped { member: 2, group: None }), empty], "was not stopped");
}

#[test]
fn one_receipt_for_two_deliveries_is_refused() {
    let (first, mut again) = (delivered(0, "a", 1, 1), delivered(200, "a", 1, 2));
    if let (What::Delivered(first), What::Delivered(again)) = (&first.what, &mut again.what) {
        again.receipt = first.receipt.clone();
    }
    refuses(&[first, again], "the same receipt");
}

#[test]
fn a_key_whose_order_is_not_kept_is_refused() {
    let keyed = |time, event: &str| {
        let mut record = published(time, event, 1, 0);
        if let What::Published(published) = &mut record.what {
            published.key = Some("k".into());
        }
        record
    };
    let by_key = |time, event: &str, member| {
        let mut record = delivered(time, event, member, 1);
        if let What::Delivered(delivered) = &mut record.what {
            delivered.by_key = true;
        }
        record
    };
    let (a, b) = (keyed(0, "a"), keyed(10, "b"));
    let (first, second) = (by_key(20, "a", 1), by_key(40, "b", 2));
    let acked = |of: &Record| settled(30, of, Verdict::Ack);
    passes(&[a.clone(), b.clone(), first.clone(), acked(&first), second.clone()]);
    let why = "b came while a of its key k was not settled";
    refuses(&[a.clone(), b.clone(), first.clone(), second.clone()], why);
    refuses(&[a.clone(), b.clone(), first.clone(), settled(30, &first, NACK), second], why);
    let (second, first) = (by_key(20, "b", 1), by_key(40, "a", 2));
    let why = "a was published before b of its key, but came after";
    refuses(&[a, b, second.clone(), acked(&second), first], why);
}

#[test]
fn what_comes_again_on_purpose_lives_anew() {
    let (first, again) = (delivered(0, "a", 1, 1), delivered(200, "a", 2, 1));
    let anew = at(100, 101, What::Anew { group: "g".into() });
    passes(&[first.clone(), settled(10, &first, Verdict::Ack), anew, again]);
}
