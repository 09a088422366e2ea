//! Deliveries that a handler settles by hand, and leases that are kept or lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "by_key/stores.rs"]
mod stores;
#[path = "everywhere/faulty.rs"]
mod faulty;

use faulty::Faulty;
use railbus::{
    Bus, ErrorKind, Event,
    delivery::{Delivery, Lease, Nack},
    testing::Recorder,
};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};
use stores::{Store, quick};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::yield_now,
    time::timeout,
};

/// The shortest that all stores know.
const LEASE: Duration = Duration::from_millis(100);

#[railbus::test]
async fn an_ack_that_is_awaited_is_in_the_store_while_the_handler_still_runs() {
    for store in Store::all() {
        let (bus, (says, mut said)) = (store.bus().await, mpsc::unbounded_channel());
        let (one, two) = (says.clone(), says);
        let acks = async move |lease: Lease| {
            one.send(("acked", lease.ack().await.is_ok())).unwrap();
            std::future::pending::<()>().await;
        };
        let other = async move |_: Event| two.send(("other", true)).unwrap();
        let on = |name: &str| bus.on("a").group("g").named(name);
        let acks = on("acks").manual().run(acks);
        bus.open_all(vec![acks, on("other").priority(9).run(other.clone())]).await.unwrap();
        bus.publish(Event::new("a").payload(1)).await.unwrap();
        assert_eq!(said.recv().await, Some(("acked", true)), "{store}");
        // Cut off in the middle, as by a crash: what was acked is not handled again.
        bus.close_within(Duration::from_millis(20)).await.unwrap();
        let (again, never) = (store.bus().await, Recorder::new());
        let acks = again.on("a").group("g").named("acks").run(never.clone());
        let others = again.on("a").group("g").named("other").run(other);
        again.open_all(vec![acks, others]).await.unwrap();
        again.idle().await.unwrap();
        assert_eq!((said.try_recv(), never.len()), (Ok(("other", true)), 0), "{store}");
    }
}

#[railbus::test]
async fn an_ack_after_the_handler_has_returned_tells_what_the_store_said() {
    for store in Store::all() {
        let (bus, (gives, mut given)) = (store.bus().await, mpsc::unbounded_channel());
        let on = bus.on("a").group("g").manual();
        on.run(async move |lease: Lease| gives.send(lease).unwrap()).await.unwrap();
        // Some that are quick, so that they are settled by the batch.
        for round in 0..40 {
            bus.publish(Event::new("a").payload(round)).await.unwrap();
            let lease = given.recv().await.unwrap();
            lease.extend().await.unwrap();
            lease.ack().await.unwrap();
        }
        bus.idle().await.unwrap();
        assert_eq!(bus.counters().succeeded.get(), 40, "{store}");
    }
}

#[railbus::test]
async fn a_handler_goes_on_while_the_store_takes_its_time_for_what_it_asked_for() {
    let (place, faults) = Faulty::new();
    faults.settling.forget_permits(Semaphore::MAX_PERMITS);
    let (bus, (says, mut said)) = (Bus::over(place), mpsc::unbounded_channel());
    let go = Arc::new(Notify::new());
    let goes = Arc::clone(&go);
    let handler = async move |lease: Lease| {
        {
            let mut extending = pin!(lease.extend());
            tokio::select! {
                biased;
                extended = &mut extending => panic!("the store hangs: {extended:?}"),
                () = goes.notified() => says.send("it goes on").unwrap(),
            }
            extending.await.unwrap();
        }
        says.send("extended").unwrap();
        lease.ack().await
    };
    bus.on("a").group("g").manual().run(handler).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    // It is polled again after it has asked.
    while faults.asked.lock().unwrap().is_empty() {
        yield_now().await;
    }
    go.notify_one();
    let late = Duration::from_secs(20);
    assert_eq!(timeout(late, said.recv()).await.expect("it stands still"), Some("it goes on"));
    faults.settling.add_permits(10);
    assert_eq!(timeout(late, said.recv()).await.expect("it stands still"), Some("extended"));
    bus.idle().await.unwrap();
    assert_eq!((bus.counters().succeeded.get(), bus.counters().retried.get()), (1, 0));
}

#[railbus::test]
async fn what_is_asked_for_counts_though_the_handler_ends_before_the_store_answers() {
    let (place, faults) = Faulty::new();
    faults.settling.forget_permits(Semaphore::MAX_PERMITS);
    let (bus, (says, mut said)) = (Bus::over(place), mpsc::unbounded_channel());
    let handler = async move |lease: Lease| {
        drop(lease.ack());
        yield_now().await;
        says.send(()).unwrap();
        Err::<(), _>("too late to fail")
    };
    bus.on("a").group("g").manual().run(handler).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    said.recv().await.unwrap();
    faults.settling.add_permits(10);
    bus.idle().await.unwrap();
    assert_eq!((bus.counters().succeeded.get(), bus.counters().failed.get()), (1, 0));
    assert!(said.try_recv().is_err(), "it came again");
}

#[railbus::test]
async fn what_ends_with_a_nack_comes_again_and_what_drops_its_lease_does_as_unsettled() {
    for store in Store::all() {
        let bus = store.bus().await;
        let handler = async |d: Delivery, lease: Lease| match d.attempt() {
            1 => drop(lease),
            2 => lease.nack(Nack { reason: "later".into(), ..Nack::default() }).await.unwrap(),
            _ => drop(lease.nack(Nack { reason: "no".into(), ..Nack::default() })),
        };
        let on = bus.on("a").group("g").retry(quick(3)).manual();
        on.run(handler).await.unwrap();
        bus.publish(Event::new("a").payload(1)).await.unwrap();
        bus.idle().await.unwrap();
        let letters = bus.keeper().unwrap().letters(&Default::default()).await.unwrap();
        let history: Vec<_> = letters[0].history.iter().map(|t| &*t.reason).collect();
        assert_eq!(history, ["unsettled", "later", "no"], "{store}");
    }
}

#[railbus::test]
async fn a_handler_that_takes_ten_leases_keeps_its_event() {
    for store in Store::all() {
        let (bus, other) = (store.bus().await, store.bus().await);
        let attempts: Arc<Mutex<Vec<u32>>> = Arc::default();
        for bus in [&bus, &other] {
            let attempts = Arc::clone(&attempts);
            let on = bus.on("a").group("g").lease(LEASE);
            on.run(async move |d: Delivery| {
                attempts.lock().unwrap().push(d.attempt());
                // sleep: ten leases, for which this one must be renewed.
                tokio::time::sleep(LEASE * 10).await;
            })
            .await
            .unwrap();
        }
        for n in 0..20 {
            bus.publish(Event::new("a").payload(n)).await.unwrap();
        }
        bus.idle().await.unwrap();
        assert_eq!(*attempts.lock().unwrap(), [1; 20], "{store}");
    }
}

/// A handler that hangs, so that nothing of its program runs: its lease is lost to another member.
#[test]
fn a_handler_whose_lease_was_lost_is_told_when_it_settles() {
    for store in Store::all() {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let taken = Arc::new(AtomicBool::new(false));
        let (hangs, takes) = (Arc::clone(&taken), Arc::clone(&taken));
        let (begins, begun) = std::sync::mpsc::channel();
        let (says, said) = std::sync::mpsc::channel();
        let (ones, others) = (&store, &store);
        thread::scope(|scope| {
            scope.spawn(move || {
                runtime().block_on(async {
                    let bus = ones.bus().await;
                    let handler = async move |lease: Lease| {
                        begins.send(()).unwrap();
                        while !hangs.load(SeqCst) {
                            // sleep: blocks its thread, which would renew the lease.
                            thread::sleep(Duration::from_millis(1));
                        }
                        let extended = lease.extend().await.unwrap_err().kind();
                        says.send((extended, lease.ack().await.unwrap_err().kind())).unwrap();
                    };
                    let on = bus.on("a").group("g").named("pay").lease(LEASE).limit(1).manual();
                    on.run(handler).await.unwrap();
                    bus.publish(Event::new("a").payload(1)).await.unwrap();
                    bus.idle().await.unwrap();
                    bus.close().await.unwrap();
                });
            });
            scope.spawn(move || {
                runtime().block_on(async {
                    let bus = others.bus().await;
                    let (done, mut is_done) = mpsc::unbounded_channel();
                    let handler = async move |d: Delivery| {
                        takes.store(true, SeqCst);
                        done.send(d.attempt()).unwrap();
                    };
                    begun.recv().unwrap();
                    let on = bus.on("a").group("g").named("pay").lease(LEASE);
                    on.run(handler).await.unwrap();
                    assert_eq!(is_done.recv().await, Some(2));
                    bus.close().await.unwrap();
                });
            });
        });
        assert_eq!(said.recv().unwrap(), (ErrorKind::Stale, ErrorKind::Stale), "{store}");
    }
}
