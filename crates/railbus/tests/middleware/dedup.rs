//! Dedup: what has the same key is handled once, and what failed is not taken for done.

use railbus::{
    BoxError, Bus, Error, ErrorKind, Event, Result, Retry,
    commons::{Claim, Commons, Draw, Grant, Local, Mark},
    delivery::{Lease, Outcome},
    json,
    middlewares::Dedup,
    testing::Recorder,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

fn order(id: &str, lines: u32) -> Event {
    Event::new("order").id(id).payload(json!({ "order": { "lines": lines } }))
}

#[railbus::test]
async fn the_key_is_the_id_or_what_is_said() {
    let by_lines = || Dedup::new().by_path("order.lines");
    let by_parity = Dedup::new().by(|event| {
        let lines = event.get::<u32>("order.lines")?;
        (lines < 9).then(|| format!("{}", lines % 2))
    });
    for (dedup, expected) in [(Dedup::new(), "abcd"), (by_lines(), "acd"), (by_parity, "ac")] {
        let (bus, seen) = (Bus::new(), Recorder::new());
        bus.on("order").layer(dedup).run(seen.clone()).await.unwrap();
        for event in [order("a", 1), order("b", 1), order("a", 1), order("c", 2), order("d", 3)] {
            let report = bus.publish(event).await.unwrap();
            assert_eq!(report.matched, 1, "a duplicate is done, not left out");
        }
        let ids: String = seen.events().iter().map(|event| event.id().to_owned()).collect();
        assert_eq!(ids, expected);
    }
    // What has no key is handled each time.
    let (bus, seen) = (Bus::new(), Recorder::new());
    bus.on("order").layer(by_lines()).run(seen.clone()).await.unwrap();
    for payload in [json!({}), json!({}), json!({ "order": { "lines": null } })] {
        bus.publish(Event::new("order").id("a").payload(payload)).await.unwrap();
    }
    assert_eq!(seen.len(), 3);
}

#[railbus::test]
async fn a_long_key_is_one_key_and_another_one_another() {
    let (bus, seen) = (Bus::new(), Recorder::new());
    bus.on("a").layer(Dedup::new().by_path("k")).run(seen.clone()).await.unwrap();
    let long = "x".repeat(10_000);
    for key in [long.clone(), long.clone(), format!("{long}y")] {
        bus.publish(Event::new("a").payload(json!({ "k": key }))).await.unwrap();
    }
    assert_eq!(seen.len(), 2);
}

#[railbus::test]
async fn what_failed_or_panicked_is_not_done_and_comes_again() {
    for panics in [false, true] {
        let (bus, tries) = (Bus::open("memory:").await.unwrap(), Arc::new(AtomicU32::new(0)));
        let thrice = Retry::attempts(3).backoff(Duration::from_millis(1));
        let count = Arc::clone(&tries);
        let on = bus.on("order").group("g").retry(thrice).layer(Dedup::new());
        on.run(async move |_: Event| match count.fetch_add(1, SeqCst) {
            0 | 1 if panics => panic!("ouch"),
            0 | 1 => Err(BoxError::from("not now")),
            _ => Ok(()),
        })
        .await
        .unwrap();
        bus.publish(order("a", 1)).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!((tries.load(SeqCst), bus.counters().dead_lettered.get()), (3, 0));
        // Done now: the same once more is not handled.
        bus.publish(order("a", 1)).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!(tries.load(SeqCst), 3);
    }
}

#[railbus::test]
async fn a_duplicate_meanwhile_waits_until_the_first_is_decided() {
    for first_fails in [false, true] {
        let (bus, began, go) = (
            Bus::open("memory:").await.unwrap(),
            Arc::new(Semaphore::new(0)),
            Arc::new(Notify::new()),
        );
        let tries = Arc::new(AtomicU32::new(0));
        let (count, begun, wait) = (Arc::clone(&tries), Arc::clone(&began), Arc::clone(&go));
        let once = Retry::attempts(1);
        let on = bus.on("order").group("g").retry(once).layer(Dedup::new().by_path("order.lines"));
        on.run(async move |_: Event| {
            let number = count.fetch_add(1, SeqCst);
            begun.add_permits(1);
            if number == 0 {
                wait.notified().await;
            }
            if number == 0 && first_fails { Err("no") } else { Ok(()) }
        })
        .await
        .unwrap();
        bus.publish(order("a", 1)).await.unwrap();
        began.acquire().await.unwrap().forget();
        bus.publish(order("b", 1)).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(tries.load(SeqCst), 1, "it waits");
        go.notify_one();
        bus.idle().await.unwrap();
        // If the first failed for good, the second is not taken for its copy.
        assert_eq!(tries.load(SeqCst), if first_fails { 2 } else { 1 });
        let (dead, well) = if first_fails { (1, 1) } else { (0, 2) };
        let counters = bus.counters();
        assert_eq!((counters.dead_lettered.get(), counters.succeeded.get()), (dead, well));
    }
}

#[railbus::test]
async fn a_duplicate_whose_patience_ends_comes_again_later() {
    let (bus, go) = (Bus::open("memory:").await.unwrap(), Arc::new(Semaphore::new(0)));
    let tries = Arc::new(AtomicU32::new(0));
    let (count, wait) = (Arc::clone(&tries), Arc::clone(&go));
    let dedup = Dedup::new().by_path("order.lines").patience(Duration::ZERO);
    let on = bus.on("order").group("g").lease(Duration::from_millis(300)).layer(dedup);
    on.run(async move |_: Event| {
        count.fetch_add(1, SeqCst);
        wait.acquire().await.unwrap().forget();
    })
    .await
    .unwrap();
    bus.publish(order("a", 1)).await.unwrap();
    bus.publish(order("b", 1)).await.unwrap();
    while bus.counters().retried.get() == 0 {
        tokio::task::yield_now().await;
    }
    go.add_permits(2);
    bus.idle().await.unwrap();
    assert_eq!((tries.load(SeqCst), bus.counters().succeeded.get()), (1, 2));
}

#[railbus::test]
async fn the_window_ends_and_so_does_the_room() {
    let (bus, short, few) = (Bus::new(), Recorder::new(), Recorder::new());
    let window = Dedup::new().window(Duration::ZERO);
    bus.on("order").layer(window).run(short.clone()).await.unwrap();
    bus.on("order").layer(Dedup::new().capacity(2)).run(few.clone()).await.unwrap();
    for id in ["a", "a", "b", "c", "a", "c"] {
        bus.publish(order(id, 1)).await.unwrap();
    }
    assert_eq!(short.len(), 6);
    let ids: String = few.events().iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids, "abca", "the oldest is forgotten first");
}

#[railbus::test]
async fn each_subscription_has_keys_of_its_own_unless_they_share_a_space() {
    let bus = Bus::open("memory:").await.unwrap();
    let [one, two, third, fourth] = [(); 4].map(|()| Recorder::new());
    let shared = || Dedup::new().shared();
    let named = |name: &str| bus.on("order").group("g").named(name);
    named("one").layer(shared()).run(one.clone()).await.unwrap();
    named("two").layer(shared()).run(two.clone()).await.unwrap();
    for (name, seen) in [("three", &third), ("four", &fourth)] {
        named(name).layer(shared().space("both")).run(seen.clone()).await.unwrap();
    }
    for _ in 0..2 {
        bus.publish(order("a", 1)).await.unwrap();
    }
    bus.idle().await.unwrap();
    assert_eq!((one.len(), two.len(), third.len() + fourth.len()), (1, 1, 1));
}

#[railbus::test]
async fn what_dedup_cannot_be_around_is_refused_when_it_opens() {
    let bus = Bus::open("memory:").await.unwrap();
    let on = bus.on("a").group("g").layer(Dedup::new().shared());
    let unnamed = on.run(|_: &Event| {}).await.unwrap_err();
    assert!(unnamed.advice().unwrap().contains(".named(..)"), "{unnamed:?}");
    let on = bus.on("a").group("g").manual().layer(Dedup::new());
    let by_hand = on.run(async |lease: Lease| lease.ack()).await.unwrap_err();
    assert!(by_hand.to_string().contains("settled by hand"), "{by_hand}");
    assert_eq!((unnamed.kind(), by_hand.kind()), (ErrorKind::Config, ErrorKind::Config));
}

/// A store that fails when it is told to, and notes what is asked of it.
#[derive(Default)]
struct Failing {
    local: Local,
    fails: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<&'static str>>,
}

impl Failing {
    fn ask(&self, what: &'static str) -> Result<()> {
        self.asked.lock().unwrap().push(what);
        match self.fails.lock().unwrap().contains(&what) {
            true => Err(Error::new(ErrorKind::Unavailable, "commons", "gone")),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl Commons for Failing {
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim> {
        self.ask("claim")?;
        self.local.claim(mark, holder, lease).await
    }

    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool> {
        self.ask("commit")?;
        self.local.commit(mark, holder, window).await
    }

    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()> {
        self.ask("release")?;
        self.local.release(mark, holder).await
    }

    async fn draw(&self, bucket: &str, draw: Draw) -> Result<Grant> {
        self.local.draw(bucket, draw).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_loses_nothing_and_undoes_nothing() {
    for (fails, failures, handled) in [("claim", 1, 0), ("commit", 0, 1), ("release", 0, 1)] {
        let (bus, seen, store) = (Bus::new(), Recorder::new(), Arc::new(Failing::default()));
        store.fails.lock().unwrap().push(fails);
        let on = bus.on("order").layer(Dedup::new().kept_in(store.clone()).space("s"));
        on.run(seen.clone()).await.unwrap();
        let report = bus.publish(order("a", 1)).await.unwrap();
        assert_eq!((report.failures.len(), seen.len()), (failures, handled), "{fails}");
        store.fails.lock().unwrap().clear();
        // Whoever can't be marked is at least not taken for done.
        bus.publish(order("a", 1)).await.unwrap();
        assert!(!seen.is_empty(), "{fails}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_kept_while_its_handler_runs_and_ends_with_who_gives_up() {
    let (bus, store, go) = (Bus::new(), Arc::new(Failing::default()), Arc::new(Notify::new()));
    let wait = Arc::clone(&go);
    let on = bus.on("order").layer(Dedup::new().kept_in(store.clone()).space("s"));
    on.run(async move |_: Event| wait.notified().await).await.unwrap();
    let mark = Mark { space: "s", key: "a" };
    let lease = Duration::from_secs(30);
    let publishing = bus.publish(order("a", 1));
    // Twice as long as its lease.
    let late = tokio::time::timeout(lease * 2, publishing).await;
    assert!(late.is_err(), "it was given up");
    assert!(store.asked.lock().unwrap().iter().filter(|asked| **asked == "claim").count() >= 6);
    let free = store.local.claim(mark, "another", lease).await.unwrap();
    assert_eq!(free, Claim::Mine, "what was given up is free");
    assert_eq!(store.asked.lock().unwrap().last(), Some(&"release"));
}

#[railbus::test]
async fn a_handler_that_skips_or_asks_to_be_called_again_is_not_done() {
    let (bus, tries) = (Bus::new(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&tries);
    bus.on("order")
        .layer(Dedup::new())
        .run(move |_: &Event| match count.fetch_add(1, SeqCst) {
            0 => Outcome::Skip,
            1 => Outcome::DeadLetter("never".into()),
            _ => Outcome::Done,
        })
        .await
        .unwrap();
    for _ in 0..5 {
        bus.publish(order("a", 1)).await.unwrap();
    }
    assert_eq!(tries.load(SeqCst), 3);
}
