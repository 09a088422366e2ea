//! The table under loom: publishing, cancelling and draining in every order of their steps.
//!
//! One thread dispatches at most, since what causes what runs is known by the thread of the system,
//! and loom runs all threads of a model on one.

use super::{
    dispatch::Start,
    publish::may_publish,
    table::{Phase, Table},
};
use crate::{consumer::Entry, context, delivery::FailurePolicy, event::Event, handler::erase};
use loom::{future::block_on, thread};
use std::sync::{
    Arc, Weak,
    atomic::{
        AtomicU32,
        Ordering::{Relaxed, SeqCst},
    },
};
use tokio_util::task::TaskTracker;

/// What loom sees: a flag whose reads and writes are steps.
type Flag = loom::sync::atomic::AtomicBool;

fn entry(event_type: &str, handler: impl Fn(&Event) + Send + Sync + 'static) -> Entry {
    let policy = FailurePolicy::for_broadcast();
    Entry::new("".into(), event_type.into(), None, policy, erase(handler))
}

/// Publishes as a bus does; tells whether it was accepted.
fn publish(table: &Table, event_type: &str) -> bool {
    let now = table.now();
    let outside = context::is_outside();
    if may_publish(&now, outside).is_err() {
        return false;
    }
    let event = Event::new(event_type).payload(0);
    let list = now.one(&event, &mut None).expect("all are in one list");
    let mut start = Start::new(&event, list);
    assert!(matches!(start.go(outside), Ok(None)), "no handler here fails or waits");
    true
}

#[test]
fn nothing_runs_once_the_bus_has_drained() {
    loom::model(|| {
        let tracker = TaskTracker::new();
        let table = Arc::new(Table::new(tracker.token()));
        let (drained, late) = (Arc::new(Flag::new(false)), Arc::new(AtomicU32::new(0)));
        let notes = |late: &Arc<AtomicU32>| {
            let (drained, late) = (Arc::clone(&drained), Arc::clone(late));
            move || {
                late.fetch_add(u32::from(drained.load(SeqCst)), Relaxed);
            }
        };
        let (outer, inner) = (notes(&late), notes(&late));
        // What a handler publishes is accepted while the bus drains, and waited for.
        let bus: Weak<Table> = Arc::downgrade(&table);
        let published = Arc::new(AtomicU32::new(0));
        let accepted = Arc::clone(&published);
        let outer = move |_: &Event| {
            outer();
            if bus.upgrade().is_some_and(|table| publish(&table, "inner")) {
                accepted.fetch_add(1, Relaxed);
            }
        };
        table.add(entry("outer", outer)).unwrap();
        table.add(entry("inner", move |_| inner())).unwrap();
        let publisher = Arc::clone(&table);
        let publishing = thread::spawn(move || publish(&publisher, "outer"));
        table.enter(Phase::Draining);
        tracker.close();
        block_on(tracker.wait());
        drained.store(true, SeqCst);
        table.enter(Phase::Closed);
        let began = publishing.join().unwrap();
        assert_eq!(late.load(Relaxed), 0, "a handler ran after the bus had drained");
        assert_eq!(published.load(Relaxed), u32::from(began), "refused inside a handler");
    });
}

#[test]
fn a_publish_that_begins_after_a_cancel_does_not_call_it() {
    loom::model(|| {
        let table = Arc::new(Table::new(TaskTracker::new().token()));
        let called = Arc::new(AtomicU32::new(0));
        let calls = Arc::clone(&called);
        let count = move |_: &Event| {
            calls.fetch_add(1, Relaxed);
        };
        let open = table.add(entry("a", count)).unwrap();
        let cancelled = Arc::new(Flag::new(false));
        let (other, tells) = (Arc::clone(&table), Arc::clone(&cancelled));
        let cancelling = thread::spawn(move || {
            let entry = other.remove(open.number).unwrap();
            assert!(entry.cancel(), "nobody else cancels it");
            tells.store(true, SeqCst);
        });
        let after = cancelled.load(SeqCst);
        publish(&table, "a");
        assert!(!after || called.load(Relaxed) == 0, "called after it was cancelled");
        cancelling.join().unwrap();
        let before = called.load(Relaxed);
        publish(&table, "a");
        assert_eq!(called.load(Relaxed), before, "called after it was cancelled");
    });
}

#[test]
fn a_dispatch_under_way_does_not_call_who_was_cancelled_meanwhile() {
    loom::model(|| {
        let table = Arc::new(Table::new(TaskTracker::new().token()));
        let (cancelled, late) = (Arc::new(Flag::new(false)), Arc::new(AtomicU32::new(0)));
        let (seen, notes) = (Arc::new(AtomicU32::new(0)), Arc::clone(&late));
        let (told, sees) = (Arc::clone(&cancelled), Arc::clone(&seen));
        // The first looks whether the second is cancelled by now; the second must know it too.
        let first = move |_: &Event| sees.store(u32::from(told.load(SeqCst)), Relaxed);
        table.add(entry("a", first)).unwrap();
        let second = move |_: &Event| {
            notes.fetch_add(seen.load(Relaxed), Relaxed);
        };
        let second = table.add(entry("a", second)).unwrap();
        let other = Arc::clone(&table);
        let cancelling = thread::spawn(move || {
            other.remove(second.number).unwrap().cancel();
            cancelled.store(true, SeqCst);
        });
        publish(&table, "a");
        cancelling.join().unwrap();
        assert_eq!(late.load(Relaxed), 0, "called although the one before saw it cancelled");
    });
}

#[test]
fn only_one_of_two_that_cancel_is_the_first() {
    loom::model(|| {
        let table = Arc::new(Table::new(TaskTracker::new().token()));
        let open = table.add(entry("a", |_| {})).unwrap();
        let cancel = |table: &Table, entry: &Entry| {
            table.remove(entry.number).is_some_and(|entry| entry.cancel())
        };
        let (other, same) = (Arc::clone(&table), Arc::clone(&open));
        let other = thread::spawn(move || cancel(&other, &same));
        let here = cancel(&table, &open);
        assert!(here != other.join().unwrap());
    });
}

#[test]
fn changes_at_the_same_time_do_not_undo_each_other() {
    loom::model(|| {
        let table = Arc::new(Table::new(TaskTracker::new().token()));
        let goes = table.add(entry("a", |_| {})).unwrap();
        let (adds, removes) = (Arc::clone(&table), Arc::clone(&table));
        let adds = thread::spawn(move || adds.add(entry("a", |_| {})).ok().map(|e| e.number));
        let removes = thread::spawn(move || drop(removes.remove(goes.number)));
        table.enter(Phase::Draining);
        let added = adds.join().unwrap();
        removes.join().unwrap();
        let (now, event) = (table.now(), Event::new("a").payload(0));
        assert_eq!(now.phase, Phase::Draining);
        let left: Vec<_> = now.wanting(&event).map(|entry| entry.number).collect();
        assert_eq!(left, Vec::from_iter(added));
    });
}

#[test]
fn no_subscription_that_opens_during_a_close_is_left() {
    loom::model(|| {
        let table = Arc::new(Table::new(TaskTracker::new().token()));
        let adds = Arc::clone(&table);
        let adds = thread::spawn(move || adds.add(entry("a", |_| {})));
        table.enter(Phase::Draining);
        table.enter(Phase::Closed);
        table.clear();
        let added = adds.join().unwrap();
        if let Ok(entry) = added {
            assert!(entry.is_cancelled());
        }
        let (now, event) = (table.now(), Event::new("a").payload(0));
        assert_eq!(now.wanting(&event).count(), 0, "it was opened after all were cancelled");
    });
}

#[test]
fn what_a_cancelled_member_wanted_is_left_to_others() {
    loom::model(|| {
        let table = Arc::new(Table::new(TaskTracker::new().token()));
        let mut member = entry("a", |_| {});
        member.group = Some("g".into());
        let open = table.add(member).unwrap();
        let other = Arc::clone(&table);
        let cancelling = thread::spawn(move || other.remove(open.number).unwrap().cancel());
        // None gives the event back; nobody at all would settle it as wanted by none.
        let found = table.member("g", &Event::new("a").payload(0));
        assert!(found.is_none_or(|found| found.len() == 1));
        cancelling.join().unwrap();
    });
}
