//! Histories that were made wrong on purpose, so that the checker is no check that can't fail.

use super::{
    check::check,
    history::{Came, How, Published, Record, Time, Wants, What},
};

fn at(begun: Time, ended: Time, what: What) -> Record {
    Record { begun, ended, what }
}

fn opened(time: Time, sub: u64, priority: i32) -> Record {
    let (wants, order) = (Wants::Type("a".into()), (priority, false, sub));
    at(time, time + 1, What::Opened { sub, wants, order, inside: None })
}

fn cancelled(time: Time, sub: u64, inside: Option<u64>) -> Record {
    at(time, time + 1, What::Cancelled { sub, inside })
}

fn published(begun: Time, ended: Time, number: u64, came: Came) -> Record {
    let event = Published { number, event_type: "a".into(), topic: "a".into() };
    at(begun, ended, What::Published { event, inside: None, came })
}

fn called(begun: Time, sub: u64, event: u64, attempt: u32, how: How) -> Record {
    at(begun, begun + 1, What::Called { sub, event, attempt, how })
}

fn done(begun: Time, sub: u64, event: u64) -> Record {
    called(begun, sub, event, 1, How::Done)
}

const AGAIN: How = How::Failed { last: false };

#[track_caller]
fn passes(mut records: Vec<Record>) {
    records.sort_by_key(|record| record.begun);
    assert_eq!(check(&records).0, Vec::<String>::new());
}

#[track_caller]
fn refuses(mut records: Vec<Record>, why: &str) {
    records.sort_by_key(|record| record.begun);
    let said = check(&records).0;
    assert!(said.iter().any(|said| said.contains(why)), "{why} is not in {said:?}");
}

/// Two subscriptions, of priority 1 and 2, and one event that both got.
fn sound() -> Vec<Record> {
    let publish = published(20, 30, 7, Came::Ok(2));
    vec![opened(0, 1, 1), opened(2, 2, 2), publish, done(22, 1, 7), done(25, 2, 7)]
}

#[test]
fn a_sound_history_passes() {
    passes(sound());
    let (_, totals) = check(&sound());
    assert_eq!((totals.must, totals.done, totals.published), (2, 2, 1));
}

#[test]
fn an_event_that_is_missing_or_comes_twice_is_told() {
    let mut lost = sound();
    lost.pop();
    refuses(lost.clone(), "subscription 2 was open all the while: 0 calls");
    refuses(lost, "the report says 2 matched, 1 were called");
    let mut twice = sound();
    twice.push(done(28, 2, 7));
    refuses(twice, "subscription 2 got it 2 times");
}

#[test]
fn a_call_after_a_cancel_is_told_and_one_at_the_same_time_is_not() {
    let mut cancels = sound();
    cancels.push(cancelled(21, 2, None));
    passes(cancels);
    let mut before = sound();
    before.push(cancelled(10, 2, None));
    refuses(before, "subscription 2 was cancelled before: 1 calls");
    let mut inside = sound();
    inside.push(cancelled(22, 2, Some(7)));
    refuses(inside, "subscription 2 ran although a handler before cancelled it");
}

#[test]
fn what_was_opened_by_an_event_does_not_get_it() {
    let mut late = sound();
    let what = What::Opened { sub: 3, wants: Wants::All, order: (3, true, 3), inside: Some(7) };
    late.extend([at(22, 23, what), done(28, 3, 7)]);
    refuses(late, "subscription 3 got the event that it was opened in");
}

#[test]
fn what_nobody_published_opened_or_wanted_is_told() {
    let mut invented = sound();
    invented.push(done(40, 1, 8));
    refuses(invented, "event 8 was delivered and never published");
    let mut unknown = sound();
    unknown.push(done(28, 9, 7));
    refuses(unknown, "subscription 9 was called and never opened");
    let mut other = sound();
    let what = What::Opened { sub: 3, wants: Wants::Even, order: (3, true, 3), inside: None };
    other.extend([at(4, 5, what), done(28, 3, 7)]);
    refuses(other, "subscription 3 does not want it");
}

#[test]
fn another_order_is_told() {
    let publish = published(20, 30, 7, Came::Ok(2));
    let open = [opened(0, 1, 1), opened(2, 2, 2)];
    let turned = [publish.clone(), done(22, 2, 7), done(25, 1, 7)];
    refuses(open.iter().cloned().chain(turned).collect(), "subscription 2 ran before 1");
    let at_once = [publish, at(22, 27, done(22, 1, 7).what), done(25, 2, 7)];
    refuses(open.into_iter().chain(at_once).collect(), "subscriptions 1 and 2 ran at once");
}

#[test]
fn a_first_try_outside_of_publish_is_told() {
    let late = vec![opened(0, 1, 1), published(20, 30, 7, Came::Ok(1)), done(35, 1, 7)];
    refuses(late, "subscription 1 was called outside of publish");
}

#[test]
fn a_refused_event_that_was_delivered_is_told() {
    let refused = published(20, 30, 7, Came::Refused);
    passes(vec![opened(0, 1, 1), refused.clone()]);
    refuses(vec![opened(0, 1, 1), refused, done(22, 1, 7)], "refused, but 1 were called");
}

#[test]
fn tries_that_skip_a_number_or_follow_a_success_are_told() {
    let open = || vec![opened(0, 1, 1), published(20, 30, 7, Came::Ok(1))];
    let with = |calls: &[Record]| open().into_iter().chain(calls.iter().cloned()).collect();
    let first = called(22, 1, 7, 1, AGAIN);
    passes(with(&[first.clone(), called(40, 1, 7, 2, How::Done)]));
    refuses(with(std::slice::from_ref(&first)), "subscription 1 was not tried again");
    refuses(with(&[first, called(40, 1, 7, 3, How::Done)]), "try 3 of subscription 1 is its 2.");
    refuses(with(&[done(22, 1, 7), called(40, 1, 7, 2, How::Done)]), "tried again after Done");
}

#[test]
fn what_comes_after_the_end_is_told() {
    let mut drained = sound();
    drained.extend([at(10, 11, What::Drained), at(40, 50, What::Closed)]);
    refuses(drained, "event 7 was accepted after the bus began to drain");
    let mut late = sound();
    late.extend([at(31, 32, What::Drained), opened(40, 3, 1)]);
    refuses(late, "subscription 3 was opened after the bus began to drain");
    let mut closed = sound();
    closed.extend([at(21, 22, What::Drained), at(22, 24, What::Closed)]);
    refuses(closed, "event 7: subscription 2 ran after the bus was closed");
    let mut well = sound();
    well.extend([at(21, 22, What::Drained), at(22, 31, What::Closed)]);
    passes(well);
}
