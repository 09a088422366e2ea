//! What a backend says it can't do is not asked of it: the engine does without, or refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "capability/left.rs"]
mod left;
#[path = "capability/poor.rs"]
mod poor;

use futures_util::FutureExt;
use poor::Poor;
use railbus::{
    ErrorKind, Event, Retry,
    backend::{Capability, Release, Verdict},
    backends::memory::Memory,
    delivery::{Delivery, Lease, Outcome},
};
use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

const LEASE: Duration = Duration::from_secs(3600);

/// Awaits what must come; a test that waits in vain fails instead of hanging.
async fn within<T>(awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(7200), awaited).await.expect("it never came")
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff(Duration::from_millis(1))
}

fn event() -> Event {
    Event::new("a").payload(0)
}

#[tokio::test(start_paused = true)]
async fn where_leases_are_not_extended_each_try_is_a_delivery() {
    for extends in [true, false] {
        let (bus, told) = Poor::new(&Memory::default(), |c| c.extends = extends).bus();
        let tries = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&tries);
        let handler = async move |delivery: Delivery| {
            noted.lock().unwrap().push(delivery.attempt());
            Outcome::Failed("no".into())
        };
        bus.on("a").group("g").lease(LEASE).retry(quick(3)).run(handler).await.unwrap();
        bus.publish(event()).await.unwrap();
        within(bus.idle()).await.unwrap();
        assert_eq!(*tries.lock().unwrap(), [1, 2, 3]);
        let again = match extends {
            true => |verdict: &Verdict| *verdict == Verdict::Extend { tries: 1 },
            false => |verdict: &Verdict| matches!(verdict, Verdict::Nack { .. }),
        };
        let verdicts = told.verdicts();
        assert!(verdicts.len() == 3 && verdicts[..2].iter().all(again), "{verdicts:?}");
        let letters = bus.keeper().unwrap().letters(&Default::default()).await.unwrap();
        assert_eq!((letters.len(), letters[0].attempts), (1, 3));
    }
}

#[tokio::test]
async fn where_leases_are_not_extended_a_handler_is_cut_off_before_another_gets_the_event() {
    let (bus, told) = Poor::new(&Memory::default(), |c| c.extends = false).bus();
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    struct Under(Arc<AtomicUsize>);
    impl Drop for Under {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let at_most = Arc::clone(&most);
    let handler = async move |delivery: Delivery| {
        at_most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        let _under = Under(under_way);
        if delivery.attempt() < 3 {
            std::future::pending::<()>().await;
        }
    };
    let lease = Duration::from_millis(500);
    bus.on("a").group("g").lease(lease).retry(quick(5)).run(handler).await.unwrap();
    bus.publish(event()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), bus.idle()).await.expect("idle").unwrap();
    assert_eq!(most.load(SeqCst), 1, "two had it at once");
    let verdicts = told.verdicts();
    assert!(matches!(verdicts[..], [Verdict::Nack { .. }, Verdict::Nack { .. }, Verdict::Ack]));
    assert_eq!(bus.counters().retried.get(), 2, "each is a try that failed");
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_behind_another_is_given_back_before_it_begins() {
    let (bus, told) = Poor::new(&Memory::default(), |c| c.extends = false).bus();
    let (calls, lease) = (Arc::new(AtomicUsize::new(0)), Duration::from_millis(500));
    let called = Arc::clone(&calls);
    // It takes its time without ever waiting: nothing can cut it off.
    let handler = move |_: &Event| {
        called.fetch_add(1, SeqCst);
        let _ = tokio::time::advance(lease * 4 / 5).now_or_never();
    };
    bus.on("a").group("g").lease(lease).run(handler).await.unwrap();
    bus.publish_all(&[event().into(), event().into()]).await;
    within(bus.idle()).await.unwrap();
    assert_eq!(calls.load(SeqCst), 2, "one was begun that others could have before it was through");
    let is_release = |verdict: &&Verdict| matches!(verdict, Verdict::Release { .. });
    assert_eq!(told.verdicts().iter().filter(is_release).count(), 1);
}

#[tokio::test]
async fn what_can_not_be_counted_held_back_or_kept_is_refused_when_the_subscription_opens() {
    let hour = || Retry::attempts(2).backoff(LEASE).max_backoff(LEASE);
    let none = |c: &mut Capability| (c.extends, c.delay_max) = (false, None);
    let lets = |change: &dyn Fn(&mut Capability), retry: Retry| {
        let (bus, _) = Poor::new(&Memory::default(), change).bus();
        async move {
            let error = bus.on("a").group("g").retry(retry).run(|_: &Event| {}).await.err();
            error.map(|error| {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                assert!(error.advice().unwrap().contains("memory"), "{error:?}");
                error.to_string()
            })
        }
    };
    let minute = |c: &mut Capability| c.delay_max = Some(Duration::from_secs(60));
    let uncounted = |c: &mut Capability| (c.extends, c.counts_attempts) = (false, false);
    let in_place = |c: &mut Capability| (c.delay_max, c.counts_attempts) = (None, false);
    for (change, retry, why) in [
        (&minute as &dyn Fn(&mut Capability), hour(), Some("at most 60s, less than a retry waits")),
        (&minute, Retry::attempts(9), None),
        (&none, quick(2), Some("at most 0ns, less than a retry waits")),
        (&none, Retry::attempts(2).backoff(Duration::ZERO), None),
        (&none, Retry::attempts(1), None),
        (&uncounted, quick(2), Some("counts no tries")),
        (&uncounted, Retry::attempts(1), None),
        (&in_place, Retry::attempts(9), None),
    ] {
        let refused = lets(change, retry.clone()).await;
        let (told, why) = (refused.as_deref().unwrap_or("nothing"), why.unwrap_or("nothing"));
        assert!(told.contains(why), "{retry:?}: {told}, not {why}");
    }
    let (bus, _) = Poor::new(&Memory::default(), |c| c.extends = false).bus();
    let by_hand = bus.on("a").group("g").manual().run(async |lease: Lease| lease.ack()).await;
    assert_eq!(by_hand.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_asks_for_a_longer_wait_than_there_is_gets_the_longest() {
    let most = Duration::from_secs(1200);
    for delay_max in [Some(most), None] {
        let (bus, told) = Poor::new(&Memory::default(), |c| c.delay_max = delay_max).bus();
        let handler = async |delivery: Delivery| match delivery.attempt() {
            1 => Outcome::Retry(LEASE),
            _ => Outcome::Done,
        };
        bus.on("a").group("g").lease(LEASE).run(handler).await.unwrap();
        bus.publish(event()).await.unwrap();
        within(bus.idle()).await.unwrap();
        let delay = delay_max.unwrap_or_default();
        assert_eq!(told.verdicts(), [Verdict::Nack { delay }, Verdict::Ack]);
    }
}

#[tokio::test]
async fn where_deliveries_are_not_counted_all_tries_are_made_in_one() {
    let change = |c: &mut Capability| c.counts_attempts = false;
    let (bus, told) = Poor::new(&Memory::default(), change).bus();
    // Longer than a third of the lease.
    let retry = Retry::attempts(3).backoff(Duration::from_millis(250));
    let (tries, mut tried) = mpsc::unbounded_channel();
    let handler = async move |delivery: Delivery| {
        tries.send(delivery.attempt()).unwrap();
        Outcome::Failed("no".into())
    };
    let lease = Duration::from_millis(600);
    bus.on("a").group("g").lease(lease).retry(retry).run(handler).await.unwrap();
    bus.publish(event()).await.unwrap();
    for expected in 1..=3 {
        assert_eq!(within(tried.recv()).await, Some(expected));
    }
    within(bus.idle()).await.unwrap();
    assert!(told.verdicts().iter().all(|verdict| !matches!(verdict, Verdict::Nack { .. })));
}

/// Has a member that gets all there is give back so often what only another one wants, which then
/// comes; returns what was told, and which try the other one's was.
async fn given_back(times: usize, change: impl FnOnce(&mut Capability)) -> (Vec<Verdict>, u32) {
    let memory = Memory::default();
    let mut poor = Poor::new(&memory, change);
    poor.all = true;
    let capability = poor.capability.clone();
    let (narrow, told) = poor.bus();
    narrow.on("b").group("g").lease(LEASE).run(|_: &Event| panic!("nobody sent it")).await.unwrap();
    narrow.publish(event()).await.unwrap();
    within(async {
        while told.verdicts().len() < times {
            // sleep: on a paused clock, so that what waits goes on.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // One more may be kept for its while.
    let unrouted = narrow.counters().unrouted.get();
    assert!(unrouted == times as u64 || unrouted == times as u64 + 1, "{unrouted}");
    assert_eq!(narrow.counters().unmatched.get(), 0);
    narrow.close().await.unwrap();
    let (other, _) = Poor::new(&memory, |c| *c = capability).bus();
    let (takes, mut taken) = mpsc::unbounded_channel();
    let handler = async move |d: Delivery| takes.send(d.attempt()).unwrap();
    other.on("a").group("g").lease(LEASE).run(handler).await.unwrap();
    let attempt = within(taken.recv()).await.unwrap();
    within(other.idle()).await.unwrap();
    let letters = other.keeper().unwrap().letters(&Default::default()).await.unwrap();
    assert!(letters.is_empty(), "{letters:?}");
    (told.verdicts()[..times].to_vec(), attempt)
}

#[tokio::test(start_paused = true)]
async fn what_only_others_want_is_given_back_for_a_while_that_costs_nothing() {
    let (verdicts, attempt) = given_back(4, |_| {}).await;
    let release = Verdict::Release { delay: Duration::from_millis(200) };
    assert_eq!((verdicts, attempt), (vec![release; 4], 1));
}

#[tokio::test(start_paused = true)]
async fn where_giving_back_is_a_try_it_is_done_less_and_less_often() {
    let change = |c: &mut Capability| c.release = Release::CountsAsAttempt;
    let (verdicts, attempt) = given_back(4, change).await;
    let nack = |millis| Verdict::Nack { delay: Duration::from_millis(millis) };
    assert_eq!((verdicts, attempt), ([200, 400, 800, 1600].map(nack).to_vec(), 5));
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_held_back_is_kept_for_a_while_before_it_is_given_back() {
    let began = tokio::time::Instant::now();
    let (verdicts, attempt) = given_back(4, |c| c.delay_max = None).await;
    let release = Verdict::Release { delay: Duration::ZERO };
    assert_eq!((verdicts, attempt), (vec![release; 4], 1));
    // On a paused clock: that it was waited, not for how long.
    assert!(began.elapsed() >= Duration::from_millis(800), "in a loop");
}
