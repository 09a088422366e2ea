//! Broadcasts that a backend brings: in order by topic, and no topic waits for another's handlers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "everywhere/places.rs"]
mod places;

use faulty::Faulty;
use railbus::{Bus, ErrorKind, Event, any, testing::Recorder, topic};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, task::yield_now, time::timeout};

const LATE: Duration = Duration::from_secs(20);

async fn let_others_run() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Subscribes a handler that waits until it is let, and remembers.
async fn waiting(bus: &Bus, pattern: &str) -> (Recorder, Arc<Semaphore>) {
    let (seen, go) = (Recorder::new(), Arc::new(Semaphore::new(0)));
    let (keep, wait) = (seen.clone(), Arc::clone(&go));
    let handle = async move |event: Event| {
        wait.acquire().await.unwrap().forget();
        railbus::SyncHandler::handle(&keep, &event)
    };
    bus.on(topic(pattern)).run(handle).await.unwrap();
    (seen, go)
}

fn event(topic: &str, n: u32) -> Event {
    Event::new("a").topic(topic).payload(n)
}

fn numbers(seen: &Recorder) -> Vec<u32> {
    seen.events().iter().map(|event| event.payload().unwrap()).collect()
}

#[railbus::test]
async fn a_handler_that_takes_its_time_holds_up_no_other_topic() {
    for place in places::shared() {
        let (bus, others) = (Bus::open(&place.url).await.unwrap(), Recorder::new());
        let (slow, go) = waiting(&bus, "slow").await;
        bus.on(topic("other:*")).run(others.clone()).await.unwrap();
        for n in 0..10 {
            bus.publish(event("slow", n)).await.unwrap();
            bus.publish(event(&format!("other:{n}"), n)).await.unwrap();
        }
        others.wait_for(10).await;
        assert_eq!((numbers(&others), slow.len()), ((0..10).collect(), 0), "{}", place.url);
        go.add_permits(10);
        bus.idle().await.unwrap();
        assert_eq!(numbers(&slow), (0..10).collect::<Vec<_>>(), "in order, {}", place.url);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_bus_is_idle_when_the_last_handler_that_waited_is_through() {
    for place in places::shared() {
        let bus = Bus::open(&place.url).await.unwrap();
        let (slow, go) = waiting(&bus, "*").await;
        for n in 0..3 {
            bus.publish(event("slow", n)).await.unwrap();
        }
        let idle = bus.clone();
        let idle = tokio::spawn(async move { idle.idle().await });
        go.add_permits(2);
        slow.wait_for(2).await;
        let_others_run().await;
        assert!(!idle.is_finished(), "{}", place.url);
        go.add_permits(1);
        idle.await.unwrap().unwrap();
        assert_eq!(numbers(&slow), [0, 1, 2]);
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn closing_waits_for_a_handler_that_waits() {
    for place in places::shared() {
        let bus = Bus::open(&place.url).await.unwrap();
        let began = Recorder::new();
        bus.on(any()).priority(0).run(began.clone()).await.unwrap();
        let (slow, go) = waiting(&bus, "slow").await;
        bus.publish(event("slow", 1)).await.unwrap();
        began.wait_for(1).await;
        let closing = bus.clone();
        let closing = tokio::spawn(async move { closing.close().await });
        let_others_run().await;
        assert!(!closing.is_finished(), "{}", place.url);
        go.add_permits(1);
        closing.await.unwrap().unwrap();
        assert_eq!(numbers(&slow), [1]);
    }
}

#[railbus::test]
async fn what_waits_is_bounded_however_much_is_published() {
    let (faulty, faults) = Faulty::new();
    let bus = Bus::over(faulty);
    let (now, most, go) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (count, at_most, wait) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&go));
    let handle = async move |_: Event| {
        at_most.fetch_max(count.fetch_add(1, SeqCst) + 1, SeqCst);
        wait.acquire().await.unwrap().forget();
        count.fetch_sub(1, SeqCst);
    };
    bus.on(any()).run(handle).await.unwrap();
    for n in 0..5_000 {
        bus.publish(event(&format!("t{n}"), n)).await.unwrap();
    }
    let_others_run().await;
    assert_eq!(now.load(SeqCst), 4_096);
    // And no more are fetched than those and a batch.
    assert!(faults.handed_out() <= 4_096 + 256, "{}", faults.handed_out());
    go.add_permits(5_000);
    bus.idle().await.unwrap();
    assert_eq!((now.load(SeqCst), bus.counters().succeeded.get()), (0, 5_000));
    assert!(most.load(SeqCst) <= 4_096);
    bus.close_within(Duration::from_secs(5)).await.unwrap();
}

#[railbus::test]
async fn whoever_subscribes_after_listening_has_ended_for_good_hears_again() {
    let (place, faults) = Faulty::new();
    let (bus, early, late) = (Bus::over(place), Recorder::new(), Recorder::new());
    bus.on("a").run(early.clone()).await.unwrap();
    bus.publish(event("t", 1)).await.unwrap();
    early.wait_for(1).await;
    faults.deny();
    assert_eq!(bus.failed().await.kind(), ErrorKind::Denied);
    let idle = timeout(LATE, bus.idle()).await.expect("idle tells what ended it");
    assert_eq!(idle.unwrap_err().kind(), ErrorKind::Denied);
    let gaps = bus.gaps();
    bus.on("a").run(late.clone()).await.unwrap();
    assert!(bus.gaps() > gaps, "what was published in between was missed");
    bus.publish(event("t", 2)).await.unwrap();
    timeout(LATE, bus.idle()).await.expect("all is heard").unwrap();
    assert_eq!((numbers(&early), numbers(&late)), (vec![1, 2], vec![2]));
}
