//! Groups in memory under loom: no order of the steps of who publishes, waits, settles and leaves
//! forgets anyone. Whoever sleeps for ever is told by loom as a deadlock.

use super::connection::Memory;
use crate::{
    backend::{Backend, Leased, Outgoing, Settle, Source, Start, Subscribe, Verdict},
    error::{ErrorKind, Result},
    event::Event,
    options::Options,
    predicate::Interest,
};
use futures_util::FutureExt;
use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};
use std::{sync::Arc, time::Duration};

/// Runs a model in every order; timers that it sets never go off.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    loom::model(model);
}

fn memory(url: &str) -> Arc<Memory> {
    Arc::new(Memory::of(&Options::parse(url).unwrap()).unwrap())
}

fn member(memory: &Memory) -> Arc<dyn Source> {
    let request = Subscribe {
        group: Some("g".into()),
        interest: Interest::all(),
        start: Start::default(),
        lease: Duration::from_secs(30),
        order: Default::default(),
    };
    block_on(memory.subscribe(request)).unwrap()
}

fn event(id: &str) -> Outgoing {
    Event::new("a").id(id).payload(0).into()
}

fn publish(memory: &Memory, id: &str) -> Result<()> {
    block_on(memory.publish(&[event(id)])).pop().unwrap()
}

fn fetch(source: &dyn Source) -> Vec<Leased> {
    block_on(source.fetch(1)).unwrap()
}

fn id(leased: &Leased) -> &str {
    leased.event.as_ref().unwrap().id()
}

fn settle(source: &dyn Source, leased: &Leased, verdict: Verdict) -> Result<()> {
    block_on(source.settle(&[Settle::new(leased.receipt.clone(), verdict)])).pop().unwrap()
}

#[test]
fn who_waits_hears_of_what_is_published() {
    explore(|| {
        let memory = memory("memory:");
        let member = member(&memory);
        let publishing = thread::spawn(move || publish(&memory, "x").unwrap());
        assert_eq!(id(&fetch(&*member)[0]), "x");
        publishing.join().unwrap();
    });
}

#[test]
fn what_a_member_was_woken_for_is_not_lost_when_it_stops() {
    explore(|| {
        let memory = memory("memory:");
        let (goes, stays) = (member(&memory), member(&memory));
        let (waits, others) = (Arc::clone(&goes), Arc::clone(&stays));
        let one = thread::spawn(move || fetch(&*waits).len());
        let two = thread::spawn(move || fetch(&*others).len());
        publish(&memory, "x").unwrap();
        goes.stop();
        let got = one.join().unwrap();
        if got == 1 {
            stays.stop();
        }
        assert_eq!(got + two.join().unwrap(), 1);
    });
}

#[test]
fn what_a_fetch_that_is_given_up_was_woken_for_is_not_lost() {
    explore(|| {
        let memory = memory("memory:");
        let (leaves, stays) = (member(&memory), member(&memory));
        let others = Arc::clone(&stays);
        let one =
            thread::spawn(move || leaves.fetch(1).now_or_never().map_or(0, |f| f.unwrap().len()));
        let two = thread::spawn(move || fetch(&*others).len());
        publish(&memory, "x").unwrap();
        let got = one.join().unwrap();
        if got == 1 {
            stays.stop();
        }
        assert_eq!(got + two.join().unwrap(), 1);
    });
}

#[test]
fn what_is_given_back_wakes_who_waits() {
    for verdict in
        [Verdict::Nack { delay: Duration::ZERO }, Verdict::Release { delay: Duration::ZERO }]
    {
        explore(move || {
            let memory = memory("memory:");
            let (holds, waits) = (member(&memory), member(&memory));
            publish(&memory, "x").unwrap();
            let held = fetch(&*holds).remove(0);
            let waiting = thread::spawn(move || fetch(&*waits).remove(0));
            settle(&*holds, &held, verdict.clone()).unwrap();
            let again = waiting.join().unwrap();
            assert_eq!((id(&again), again.lost), ("x", false));
            assert_eq!(settle(&*holds, &held, Verdict::Ack).unwrap_err().kind(), ErrorKind::Stale);
        });
    }
}

#[test]
fn two_members_get_two_events_once_each() {
    explore(|| {
        let memory = memory("memory:");
        let (one, two) = (member(&memory), member(&memory));
        let one = thread::spawn(move || id(&fetch(&*one)[0]).to_owned());
        let two = thread::spawn(move || id(&fetch(&*two)[0]).to_owned());
        publish(&memory, "x").unwrap();
        publish(&memory, "y").unwrap();
        let mut got = [one.join().unwrap(), two.join().unwrap()];
        got.sort();
        assert_eq!(got, ["x", "y"]);
    });
}

#[test]
fn a_publisher_that_waits_for_room_is_let_in() {
    explore(|| {
        let memory = memory("memory:?queue=1");
        let member = member(&memory);
        publish(&memory, "x").unwrap();
        let publisher = Arc::clone(&memory);
        let publishing = thread::spawn(move || publish(&publisher, "y").unwrap());
        for expected in ["x", "y"] {
            let leased = fetch(&*member).remove(0);
            assert_eq!(id(&leased), expected);
            settle(&*member, &leased, Verdict::Ack).unwrap();
        }
        publishing.join().unwrap();
    });
}

#[test]
fn a_publisher_that_gives_up_makes_way_for_the_next() {
    explore(|| {
        let memory = memory("memory:?queue=1");
        let member = member(&memory);
        publish(&memory, "x").unwrap();
        let (leaves, stays) = (Arc::clone(&memory), Arc::clone(&memory));
        let gone = Arc::new(AtomicBool::new(false));
        let tells = Arc::clone(&gone);
        let leaving = thread::spawn(move || {
            drop(leaves.publish(&[event("y")]).now_or_never());
            tells.store(true, SeqCst);
        });
        let staying = thread::spawn(move || publish(&stays, "z").unwrap());
        // "y" may have come in before its publisher gave up, but not later.
        let (mut got, mut late) = (String::new(), None);
        while !got.ends_with('z') {
            let leased = fetch(&*member).remove(0);
            got += id(&leased);
            late.get_or_insert(gone.load(SeqCst));
            settle(&*member, &leased, Verdict::Ack).unwrap();
        }
        assert!(got == "xz" || got == "xyz" && late == Some(false), "{got}");
        leaving.join().unwrap();
        staying.join().unwrap();
    });
}

#[test]
fn everyone_who_waits_is_told_of_the_close() {
    explore(|| {
        let memory = memory("memory:?queue=1");
        let member = member(&memory);
        publish(&memory, "x").unwrap();
        let held = fetch(&*member);
        let (publisher, asks) = (Arc::clone(&memory), Arc::clone(&memory));
        let publishing = thread::spawn(move || publish(&publisher, "y"));
        let groups = [("g".to_owned(), Interest::all())];
        let asking = thread::spawn(move || block_on(asks.settled(&groups)));
        block_on(memory.close(Duration::ZERO)).unwrap();
        assert_eq!(publishing.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(asking.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert!(fetch(&*member).is_empty());
        drop(held);
    });
}

#[test]
fn a_fetch_ends_when_its_connection_closes() {
    explore(|| {
        let memory = memory("memory:");
        let member = member(&memory);
        let waiting = thread::spawn(move || fetch(&*member).len());
        block_on(memory.close(Duration::ZERO)).unwrap();
        assert_eq!(waiting.join().unwrap(), 0);
    });
}

#[test]
fn who_asks_whether_all_is_settled_hears_of_the_last() {
    explore(|| {
        let memory = memory("memory:");
        let member = member(&memory);
        publish(&memory, "x").unwrap();
        let held = fetch(&*member).remove(0);
        let asks = Arc::clone(&memory);
        let groups = [("g".to_owned(), Interest::all())];
        let asking = thread::spawn(move || block_on(asks.settled(&groups)).unwrap());
        settle(&*member, &held, Verdict::Ack).unwrap();
        asking.join().unwrap();
    });
}
