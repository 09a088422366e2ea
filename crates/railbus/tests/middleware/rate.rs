//! Rates: how many events are fetched, and that what waits is not claimed.

use crate::faulty::Faulty;
use railbus::{
    Bus, ErrorKind, Event, Result, Retry,
    commons::{Claim, Commons, Draw, Grant, Local, Mark},
    middlewares::RateLimit,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::Instant;

/// When each event was handled.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<Instant>>>);

impl Times {
    fn note(&self) {
        self.0.lock().unwrap().push(Instant::now());
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Asserts that in no span there were more than the rate and the burst let through.
    fn assert_within(&self, rate: f64, burst: f64) {
        let times = self.0.lock().unwrap();
        for (first, from) in times.iter().enumerate() {
            for (last, to) in times.iter().enumerate().skip(first) {
                let (count, span) = ((last - first + 1) as f64, (*to - *from).as_secs_f64());
                // Waits are whole milliseconds.
                assert!(count <= burst + rate * (span + 0.002), "{count} in {span} s");
            }
        }
    }
}

async fn publish(bus: &Bus, count: usize) {
    for _ in 0..count {
        bus.publish(Event::new("tick")).await.unwrap();
    }
}

async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_fetched_than_the_rate_lets_through_and_no_less() {
    let (bus, times) = (Bus::open("memory:").await.unwrap(), Times::default());
    let noted = times.clone();
    let on = bus.on("tick").group("g").layer(RateLimit::per_second(10.0).burst(5));
    on.run(move |_: &Event| noted.note()).await.unwrap();
    let began = Instant::now();
    publish(&bus, 105).await;
    let_others_run().await;
    let group = bus.keeper().unwrap().groups().await.unwrap().remove(0);
    assert_eq!((group.lag, group.leased, times.len()), (100, 0, 5), "what waits is not claimed");
    bus.idle().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!((9.9..10.5).contains(&took), "100 more at 10 a second took {took} s");
    // After a rest as many at once as the bucket holds, and not twice as many.
    // sleep: of a clock that is paused; the bucket fills meanwhile.
    tokio::time::sleep(Duration::from_secs(100)).await;
    publish(&bus, 20).await;
    bus.idle().await.unwrap();
    times.assert_within(10.0, 5.0);
    assert_eq!(times.len(), 125);
}

#[tokio::test(start_paused = true)]
async fn slow_handlers_cost_no_tokens_while_they_run() {
    let (bus, times) = (Bus::open("memory:").await.unwrap(), Times::default());
    let noted = times.clone();
    let on = bus.on("tick").group("g").limit(10).layer(RateLimit::per_second(1.0).burst(10));
    on.run(async move |_: Event| {
        noted.note();
        // sleep: of a clock that is paused; a handler that takes its time.
        tokio::time::sleep(Duration::from_secs(10)).await;
    })
    .await
    .unwrap();
    let began = Instant::now();
    publish(&bus, 30).await;
    bus.idle().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!((29.9..31.0).contains(&took), "three times ten handlers of 10 s took {took} s");
    times.assert_within(1.0, 10.0);
}

#[tokio::test(start_paused = true)]
async fn clones_share_their_tokens_among_groups() {
    let (bus, times) = (Bus::open("memory:").await.unwrap(), Times::default());
    let rate = RateLimit::every(Duration::from_millis(100));
    for group in ["a", "b"] {
        let noted = times.clone();
        let on = bus.on("tick").group(group).layer(rate.clone());
        on.run(move |_: &Event| noted.note()).await.unwrap();
    }
    let began = Instant::now();
    publish(&bus, 20).await;
    bus.idle().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    assert!((3.8..4.2).contains(&took), "40 at 10 a second took {took} s");
    // Each of the two may hold one token while it waits for an event.
    times.assert_within(10.0, 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_is_fetched_and_a_try_in_place_is_not() {
    let (bus, times) = (Bus::open("memory:").await.unwrap(), Times::default());
    let noted = times.clone();
    let thrice = Retry::attempts(3).backoff(Duration::from_millis(1));
    let on =
        bus.on("tick").group("g").retry(thrice).layer(RateLimit::every(Duration::from_secs(60)));
    on.run(move |_: &Event| {
        noted.note();
        Err::<(), _>("no")
    })
    .await
    .unwrap();
    let began = Instant::now();
    publish(&bus, 1).await;
    bus.idle().await.unwrap();
    assert_eq!(times.len(), 3);
    assert!(began.elapsed() < Duration::from_secs(1), "tries in place take no tokens");
}

#[railbus::test]
async fn a_rate_on_a_broadcast_is_refused() {
    let on = Bus::new().on("tick").layer(RateLimit::per_second(1.0));
    let refused = on.run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.advice()),
        (ErrorKind::Config, Some("give the subscription a group"))
    );
}

#[railbus::test]
async fn a_shared_rate_needs_a_backend_that_has_things_in_common() {
    let (backend, _) = Faulty::new();
    let bus = Bus::over(backend);
    let on = bus.on("tick").group("g").layer(RateLimit::per_second(1.0).shared("r"));
    let refused = on.run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(
        refused.advice().unwrap().starts_with("use a backend that does: memory"),
        "{refused:?}"
    );
}

/// A store that can't be asked for a while.
#[derive(Default)]
struct Away {
    local: Local,
    away: AtomicBool,
    asked: AtomicU32,
}

#[async_trait::async_trait]
impl Commons for Away {
    async fn claim(&self, mark: Mark<'_>, holder: &str, lease: Duration) -> Result<Claim> {
        self.local.claim(mark, holder, lease).await
    }

    async fn commit(&self, mark: Mark<'_>, holder: &str, window: Duration) -> Result<bool> {
        self.local.commit(mark, holder, window).await
    }

    async fn release(&self, mark: Mark<'_>, holder: &str) -> Result<()> {
        self.local.release(mark, holder).await
    }

    async fn draw(&self, bucket: &str, draw: Draw) -> Result<Grant> {
        self.asked.fetch_add(1, SeqCst);
        match self.away.load(SeqCst) {
            true => Err(railbus::Error::new(ErrorKind::Unavailable, "draw", "gone")),
            false => self.local.draw(bucket, draw).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_of_a_rate_is_away_nothing_is_fetched_and_nothing_is_lost() {
    let (bus, store, times) =
        (Bus::open("memory:").await.unwrap(), Arc::new(Away::default()), Times::default());
    store.away.store(true, SeqCst);
    let noted = times.clone();
    let rate = RateLimit::per_second(100.0).kept_in(store.clone(), "r");
    let on = bus.on("tick").group("g").layer(rate);
    on.run(move |_: &Event| noted.note()).await.unwrap();
    publish(&bus, 5).await;
    // sleep: of a clock that is paused; what happens meanwhile is counted.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = store.asked.load(SeqCst);
    assert!((5..20).contains(&asked), "asked {asked} times in a minute");
    assert_eq!((times.len(), bus.counters().delivered.get()), (0, 0));
    store.away.store(false, SeqCst);
    bus.idle().await.unwrap();
    assert_eq!(times.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn one_draw_grants_as_many_as_are_fetched_at_once() {
    let (bus, store, times) =
        (Bus::open("memory:").await.unwrap(), Arc::new(Away::default()), Times::default());
    publish(&bus, 0).await;
    let noted = times.clone();
    let rate = RateLimit::per_second(1_000.0).kept_in(store.clone(), "r");
    let on = bus.on("tick").group("g").layer(rate);
    on.run(move |_: &Event| noted.note()).await.unwrap();
    let events: Vec<_> = (0..1_000).map(|_| Event::new("tick").payload(1)).collect();
    for event in events {
        bus.publish(event).await.unwrap();
    }
    bus.idle().await.unwrap();
    let asked = store.asked.load(SeqCst);
    assert!(asked <= 1_000 / 20, "{asked} draws for {} events", times.len());
}
