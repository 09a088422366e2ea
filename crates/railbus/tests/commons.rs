//! What a fleet has in common beside events, on each backend that keeps it: marks of what is handled
//! once, and rates. Two buses stand for two processes.
#![cfg(any(feature = "sqlite", feature = "redis", feature = "postgres"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/places.rs"]
mod places;

use futures_util::future::join_all;
use railbus::{
    BoxError, Bus, ErrorKind, Event, Predicate, Retry, Subscriber,
    bus::On,
    commons::{Claim, Draw, Grant, Mark},
    delivery::Delivery,
    json,
    middlewares::{Dedup, RateLimit},
    testing::Recorder,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(60);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Returns places on all backends that keep what a fleet has in common: NATS does not.
fn fleets() -> impl Iterator<Item = places::Place> {
    places::durable().into_iter().filter(|place| !place.url.starts_with("nats:"))
}

async fn two(url: &str) -> [Bus; 2] {
    [Bus::open(url).await.unwrap(), Bus::open(url).await.unwrap()]
}

#[railbus::test]
async fn a_mark_is_one_holders_until_it_is_given_back_committed_or_over() {
    for place in fleets() {
        let buses = two(&place.url).await;
        let [a, b] = [0, 1].map(|n| buses[n].commons().unwrap());
        let mark = Mark { space: "group/name:with \"quotes\" ü", key: "k\0ey: 1" };
        let told = &place.url;
        assert_eq!(a.claim(mark, "a", LONG).await.unwrap(), Claim::Mine, "{told}");
        assert_eq!(a.claim(mark, "a", LONG).await.unwrap(), Claim::Mine, "again is fine");
        let held = b.claim(mark, "b", LONG).await.unwrap();
        assert!(
            matches!(held, Claim::Held(left) if left <= LONG && left > millis(30_000)),
            "{held:?}"
        );
        // Nobody else gives it back, or commits it.
        b.release(mark, "b").await.unwrap();
        assert!(!b.commit(mark, "b", LONG).await.unwrap());
        assert!(matches!(b.claim(mark, "b", LONG).await.unwrap(), Claim::Held(_)));
        a.release(mark, "a").await.unwrap();
        assert_eq!(b.claim(mark, "b", LONG).await.unwrap(), Claim::Mine, "{told}");
        assert!(b.commit(mark, "b", LONG).await.unwrap());
        assert!(b.commit(mark, "b", LONG).await.unwrap(), "again is fine");
        a.release(mark, "a").await.unwrap();
        assert_eq!(a.claim(mark, "a", LONG).await.unwrap(), Claim::Done, "{told}");
        // Keys and spaces are apart, however they are put together.
        for (space, key) in [("x:y", "z"), ("x", "y:z"), ("x:y:z", "")] {
            let mark = Mark { space, key };
            assert_eq!(a.claim(mark, "a", LONG).await.unwrap(), Claim::Mine, "{told} {mark:?}");
        }
    }
}

#[railbus::test]
async fn leases_and_windows_end_by_themselves() {
    for place in fleets() {
        let buses = two(&place.url).await;
        let [a, b] = [0, 1].map(|n| buses[n].commons().unwrap());
        let (leased, done) = (Mark { space: "s", key: "l" }, Mark { space: "s", key: "d" });
        assert_eq!(a.claim(leased, "a", millis(200)).await.unwrap(), Claim::Mine);
        assert!(a.commit(done, "a", millis(200)).await.unwrap());
        assert_eq!(b.claim(done, "b", LONG).await.unwrap(), Claim::Done, "{}", place.url);
        for mark in [leased, done] {
            let began = Instant::now();
            while b.claim(mark, "b", LONG).await.unwrap() != Claim::Mine {
                assert!(began.elapsed() < Duration::from_secs(20), "{}", place.url);
                b.wait(mark, millis(20)).await;
            }
        }
        // Whoever comes too late finds that it is another's.
        assert!(!a.commit(leased, "a", LONG).await.unwrap(), "{}", place.url);
    }
}

#[railbus::test]
async fn of_many_that_claim_at_once_one_gets_it() {
    for place in fleets() {
        let buses = two(&place.url).await;
        for round in 0..5 {
            let key = format!("k{round}");
            let claims = (0..16).map(|n| {
                let (commons, key) = (buses[n % 2].commons().unwrap(), key.clone());
                tokio::spawn(async move {
                    let mark = Mark { space: "s", key: &key };
                    commons.claim(mark, &format!("holder {n}"), LONG).await.unwrap()
                })
            });
            let came = join_all(claims).await.into_iter().map(Result::unwrap);
            assert_eq!(came.filter(|claim| *claim == Claim::Mine).count(), 1, "{}", place.url);
        }
    }
}

#[railbus::test]
async fn a_bucket_is_shared_and_never_gives_more_than_it_has() {
    for place in fleets() {
        let buses = two(&place.url).await;
        let draw = Draw { rate: 0.001, burst: 50, want: 3, back: 0, came: 0, ago: Duration::ZERO };
        let draws = (0..40).map(|n| {
            let commons = buses[n % 2].commons().unwrap();
            tokio::spawn(async move { commons.draw("r", draw).await.unwrap() })
        });
        let granted: u32 = join_all(draws)
            .await
            .into_iter()
            .map(|came| match came.unwrap() {
                Grant::Now(count) => count,
                Grant::In(wait) => {
                    assert!(wait > Duration::from_secs(100) && wait <= Duration::from_secs(1_000));
                    0
                }
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(granted, 50, "{}", place.url);
        // What goes back is there again, but for what was used.
        let commons = buses[0].commons().unwrap();
        let back = Draw { want: 20, back: 10, ..draw };
        assert_eq!(commons.draw("r", back).await.unwrap(), Grant::Now(10), "{}", place.url);
        let used = Draw { want: 50, back: 50, came: 45, ..draw };
        assert_eq!(commons.draw("r", used).await.unwrap(), Grant::Now(5), "{}", place.url);
        let fast = Draw { rate: 1_000.0, burst: 4, want: 9, ..draw };
        assert_eq!(commons.draw("other", fast).await.unwrap(), Grant::Now(4), "{}", place.url);
        let began = Instant::now();
        while !matches!(commons.draw("other", fast).await.unwrap(), Grant::Now(_)) {
            assert!(began.elapsed() < Duration::from_secs(20), "{}", place.url);
        }
    }
}

#[railbus::test]
async fn after_the_bus_is_closed_what_it_had_in_common_says_so() {
    for place in fleets() {
        let bus = Bus::open(&place.url).await.unwrap();
        let commons = bus.commons().unwrap();
        bus.close().await.unwrap();
        let mark = Mark { space: "s", key: "k" };
        let late = commons.claim(mark, "a", LONG).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Closed, "{} {late}", place.url);
    }
    for place in places::live() {
        let bus = Bus::open(&place.url).await.unwrap();
        let refused = bus.commons().err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{}", place.url);
        let hint = refused.advice().unwrap();
        assert!(hint.starts_with("use a backend that does: memory"), "{hint}");
        let on = bus.on("a").named("n").layer(Dedup::new().shared());
        assert_eq!(on.run(|_: &Event| {}).await.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[railbus::test]
async fn a_fleet_handles_what_is_the_same_once() {
    for place in fleets() {
        let buses = two(&place.url).await;
        let (seen, fails) = (Recorder::new(), Arc::new(AtomicU32::new(3)));
        for bus in &buses {
            let once = Dedup::new().by_path("order").shared();
            let retry = Retry::attempts(9).backoff(millis(1));
            let on = bus.on("paid").group("g").named("ship").retry(retry).layer(once);
            let (seen, fails) = (seen.clone(), Arc::clone(&fails));
            on.run(async move |event: Event| {
                tokio::task::yield_now().await;
                // Some fail at first: what failed is not done.
                if fails.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    return Err(BoxError::from("not now"));
                }
                railbus::SyncHandler::handle(&seen, &event)
            })
            .await
            .unwrap();
        }
        for copy in 0..4 {
            for order in 0..10 {
                let payload = json!({ "order": format!("o-{order}"), "copy": copy });
                buses[copy % 2].publish(Event::new("paid").payload(payload)).await.unwrap();
            }
        }
        for bus in &buses {
            bus.idle().await.unwrap();
        }
        let mut orders: BTreeMap<String, u32> = BTreeMap::new();
        for event in seen.events() {
            *orders.entry(event.get::<String>("order").unwrap()).or_default() += 1;
        }
        assert_eq!(orders.len(), 10, "{} {orders:?}", place.url);
        assert!(orders.values().all(|times| *times == 1), "{} {orders:?}", place.url);
        let letters = buses[0].keeper().unwrap().letters(&Default::default()).await.unwrap();
        assert!(letters.is_empty(), "{}", place.url);
    }
}

#[railbus::test]
async fn the_claim_of_a_process_that_died_ends_with_its_lease() {
    for place in fleets() {
        let bus = Bus::open(&place.url).await.unwrap();
        let (commons, seen) = (bus.commons().unwrap(), Recorder::new());
        // Whoever claimed it is never heard of again.
        let mark = Mark { space: "g/n", key: "o-1" };
        assert_eq!(commons.claim(mark, "died", millis(400)).await.unwrap(), Claim::Mine);
        let once = Dedup::new().by_path("order").shared();
        let on = bus.on("paid").group("g").named("n").layer(once);
        on.run(seen.clone()).await.unwrap();
        let began = Instant::now();
        bus.publish(Event::new("paid").payload(json!({ "order": "o-1" }))).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!(seen.len(), 1, "{}", place.url);
        assert!(began.elapsed() >= millis(100), "{}: it waited", place.url);
    }
}

#[railbus::test]
async fn a_fleet_keeps_one_rate_and_claims_no_more_than_it_lets_through() {
    for place in fleets() {
        let buses = two(&place.url).await;
        let times = Arc::new(Mutex::new(Vec::new()));
        for bus in &buses {
            let rate = RateLimit::per_second(20.0).burst(2).shared("mails");
            let noted = Arc::clone(&times);
            let on = bus.on("mail").group("g").layer(rate);
            on.run(move |_: &Event| noted.lock().unwrap().push(Instant::now())).await.unwrap();
        }
        let began = Instant::now();
        for _ in 0..20 {
            buses[0].publish(Event::new("mail")).await.unwrap();
        }
        for bus in &buses {
            bus.idle().await.unwrap();
        }
        let times = times.lock().unwrap();
        assert_eq!(times.len(), 20, "{}", place.url);
        // Two at first, and as many again that a waiting member may hold; the rest by the rate.
        let least = Duration::from_secs_f64((20.0 - 4.0) / 20.0);
        assert!(began.elapsed() >= least - millis(100), "{}: {:?}", place.url, began.elapsed());
    }
}

#[cfg(any(feature = "redis", feature = "postgres"))]
#[railbus::test]
async fn a_server_that_is_away_for_a_while_holds_up_what_is_shared_and_loses_nothing() {
    for place in fleets() {
        let Some((proxy, url)) = place.by_proxy() else { continue };
        let (bus, near) = (Bus::open(&url).await.unwrap(), Bus::open(&place.url).await.unwrap());
        let seen = Recorder::new();
        let rate = RateLimit::per_second(100.0).burst(5).shared("r");
        let once = Dedup::new().by_path("order").shared();
        let retry = Retry::attempts(20).backoff(millis(20)).max_backoff(millis(100));
        let on = bus.on("paid").group("g").named("n").retry(retry).layer(rate).layer(once);
        on.run(seen.clone()).await.unwrap();
        let publish = async |from: u32| {
            for order in from..from + 20 {
                let payload = json!({ "order": order / 2 });
                near.publish(Event::new("paid").payload(payload)).await.unwrap();
            }
        };
        publish(0).await;
        seen.wait_for(3).await;
        proxy.fault(railbus_testbed::Fault::Refuse);
        publish(20).await;
        proxy.fault(railbus_testbed::Fault::None);
        let began = Instant::now();
        while near.keeper().unwrap().groups().await.unwrap()[0].lag > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "{}: it never went on", place.url);
            near.commons().unwrap().wait(Mark { space: "", key: "" }, millis(50)).await;
        }
        let letters = near.keeper().unwrap().letters(&Default::default()).await.unwrap();
        assert!(letters.is_empty(), "{}: {letters:?}", place.url);
        let orders: std::collections::BTreeSet<_> =
            seen.events().iter().map(|event| event.get::<u32>("order").unwrap()).collect();
        assert_eq!(orders.len(), 20, "{}: each order at least once", place.url);
    }
}

/// A subscriber of a group that fails so often.
struct Part(&'static str, AtomicU32, Recorder);

#[async_trait::async_trait]
impl Subscriber for Part {
    fn interest(&self) -> Predicate {
        ["user.created", "user.deleted"].into()
    }

    fn terms(&self, on: On) -> On {
        // Longer than a third of the lease: it is a redelivery.
        let retry = Retry::attempts(5).backoff(millis(450));
        on.group("users").named(self.0).lease(Duration::from_secs(1)).retry(retry)
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), BoxError> {
        railbus::SyncHandler::handle(&self.2, delivery)?;
        match self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err("not now".into()),
            Err(_) => Ok(()),
        }
    }
}

#[railbus::test]
async fn a_redelivery_reruns_only_the_subscribers_that_failed() {
    for place in places::grouped() {
        let bus = Bus::open(&place.url).await.unwrap();
        assert!(bus.capability().keeps_finished);
        let (well, once) = (Recorder::new(), Recorder::new());
        let parts = [("well", 0, &well), ("once", 1, &once)];
        let parts = parts.map(|(name, fails, seen)| {
            bus.subscribe(Arc::new(Part(name, AtomicU32::new(fails), seen.clone())))
        });
        bus.open_all(parts).await.unwrap();
        bus.publish(Event::new("user.created")).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!((well.len(), once.len()), (1, 2), "{}", place.url);
        assert_eq!(bus.counters().delivered.get(), 2, "{}: it was a redelivery", place.url);
    }
}
