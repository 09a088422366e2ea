//! The ticks of a schedule as events, under a clock that goes where a test wants it.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Schedule,
    backend::{Advance, Outgoing, Position},
    bus::Report,
    clock::Timestamp,
    input::EventInput,
    inputs::ticks::Ticks,
    schedule::Missed,
};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

const START: &str = "2026-01-01T00:00:30Z";
const MINUTE: Duration = Duration::from_secs(60);

/// A wall clock that follows the paused time, and can be set.
#[derive(Clone)]
struct Wall {
    began: Instant,
    set: Arc<AtomicI64>,
    looks: Arc<AtomicUsize>,
}

impl Wall {
    fn new() -> Self {
        Self { began: Instant::now(), set: Arc::default(), looks: Arc::default() }
    }

    fn now(&self) -> Timestamp {
        let start: Timestamp = START.parse().unwrap();
        let now = start.after(self.began.elapsed()).as_micros();
        Timestamp::from_micros(now + self.set.load(Ordering::SeqCst))
    }

    /// Moves it by so many seconds.
    fn jump(&self, seconds: i64) {
        self.set.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    fn ticks(&self, schedule: Schedule) -> Ticks {
        let wall = self.clone();
        Ticks::new("beat", schedule, |_| Event::new("tick")).unwrap().clock(move || {
            wall.looks.fetch_add(1, Ordering::SeqCst);
            wall.now()
        })
    }
}

fn minutely(missed: Missed) -> Schedule {
    Schedule::every(MINUTE).unwrap().missed(missed)
}

/// Returns the hours and minutes of the next events.
async fn next(ticks: &mut Ticks) -> Vec<String> {
    let events = ticks.next().await.unwrap();
    events.iter().map(|out| out.event.timestamp().to_string()[11..16].to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_tick_is_an_event_under_its_id_at_its_time_with_its_position() {
    let wall = Wall::new();
    let mut ticks = wall.ticks(minutely(Missed::Latest));
    let mut before = 0;
    for minute in 1..=3_u64 {
        let batch = ticks.next().await.unwrap();
        assert_eq!(wall.began.elapsed(), Duration::from_secs(30) + MINUTE * (minute - 1) as u32);
        let (event, position) = (&batch[0].event, batch[0].position.as_ref().unwrap());
        assert_eq!((event.source(), event.event_type()), ("schedule:beat", "tick"));
        assert_eq!(event.timestamp().to_string(), format!("2026-01-01T00:0{minute}:00.000000Z"));
        assert_eq!((&*position.input, position.from), ("schedule:beat", before));
        before = position.to.offset;
        assert_eq!(before, event.timestamp().as_micros() as u64);
        // A dropped wait loses nothing.
        let waited = tokio::time::timeout(Duration::from_secs(5), ticks.next()).await;
        assert!(waited.is_err() && batch.len() == 1);
        let schedule = minutely(Missed::Latest);
        let earlier = Timestamp::from_micros(event.timestamp().as_micros() - 1);
        assert_eq!(event.id(), schedule.after(earlier).unwrap().id("beat"));
    }
}

#[tokio::test(start_paused = true)]
async fn missed_ticks_meet_the_policy() {
    for (missed, expected) in [
        (Missed::Skip, vec!["01:40"]),
        (Missed::Latest, vec!["01:30"]),
        (Missed::All, vec!["01:01", "01:30"]),
    ] {
        let wall = Wall::new();
        let sparse = Schedule::at([
            "2026-01-01T00:01:00Z",
            "2026-01-01T01:01:00Z",
            "2026-01-01T01:30:00Z",
            "2026-01-01T01:40:00Z",
        ]);
        let mut ticks = wall.ticks(sparse.unwrap().missed(missed));
        assert_eq!(next(&mut ticks).await, ["00:01"]);
        // The machine sleeps until 01:31:30.
        wall.jump(90 * 60 + 30);
        let seen = next(&mut ticks).await;
        assert_eq!(seen, expected, "{missed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_missed_ticks_the_latest_thousand_are_made_up_for() {
    let wall = Wall::new();
    let mut ticks = wall.ticks(minutely(Missed::All));
    let first = next(&mut ticks).await;
    wall.jump(365 * 24 * 60 * 60);
    let all = ticks.next().await.unwrap();
    assert_eq!((first.len(), all.len()), (1, 1000));
    let last = all[999].event.timestamp();
    assert!(all.windows(2).all(|two| {
        two[1].event.timestamp().since(two[0].event.timestamp()) == MINUTE
            && two[1].position.as_ref().unwrap().from == two[0].position.as_ref().unwrap().to.offset
    }));
    assert!(wall.now().since(last) < MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_makes_nothing_tick_again() {
    let wall = Wall::new();
    let mut ticks = wall.ticks(minutely(Missed::All));
    let mut seen: Vec<String> = Vec::new();
    for jump in [0, -600, 0, 30, -90, 0] {
        wall.jump(jump);
        seen.extend(next(&mut ticks).await);
    }
    assert_eq!(seen, ["00:01", "00:02", "00:03", "00:04", "00:05", "00:06"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_is_noticed_within_a_minute_and_looked_at_rarely() {
    let wall = Wall::new();
    let nightly = Schedule::at(["2026-01-01T02:00:00Z"]).unwrap();
    let mut ticks = wall.ticks(nightly);
    let waiting = tokio::spawn(async move { ticks.next().await.unwrap().len() });
    tokio::time::sleep(MINUTE * 10).await; // sleep: on a paused clock, it takes no time.
    let looks = wall.looks.load(Ordering::SeqCst);
    assert!((10..=40).contains(&looks), "{looks} looks in ten minutes");
    wall.jump(2 * 60 * 60);
    let set = Instant::now();
    assert_eq!(waiting.await.unwrap(), 1);
    assert!(set.elapsed() <= MINUTE);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_goes_on_after_what_was_stored_whoever_stored_it() {
    let wall = Wall::new();
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_micros() as u64;
    let mut ticks = wall.ticks(minutely(Missed::All));
    let position = |offset| Some(Position { offset, fingerprint: 0 });
    ticks.resume(None).await.unwrap();
    // Nothing was stored: what was before the start is not made up for.
    assert_eq!(next(&mut ticks).await, ["00:01"]);
    // Another process, whose clock is ahead, was faster.
    ticks.resume(position(at("2026-01-01T00:03:00Z"))).await.unwrap();
    assert_eq!(next(&mut ticks).await, ["00:04"]);
    // What was given out, but not stored since another process had moved the position.
    ticks.resume(position(at("2026-01-01T00:02:00Z"))).await.unwrap();
    assert_eq!(next(&mut ticks).await, ["00:03", "00:04"]);
}

#[tokio::test(start_paused = true)]
async fn a_tick_whose_event_cannot_be_made_is_passed_over() {
    let wall = Wall::new();
    let told = wall.clone();
    let mut count = 0;
    let mut ticks = Ticks::new("beat", minutely(Missed::All), move |_| {
        count += 1;
        assert_ne!(count, 1, "on purpose");
        Event::new(if count == 2 { "" } else { "tick" })
    })
    .unwrap()
    .clock(move || told.now());
    assert_eq!(next(&mut ticks).await, ["00:03"]);
    assert!(Ticks::new("", minutely(Missed::All), |_| Event::new("tick")).is_err());
}

/// Publishes these and returns which were stale; anything else that is refused is a mistake.
async fn stale(bus: &Bus, batch: &[Outgoing]) -> Vec<bool> {
    let told = |result: railbus::Result<Report>| match result {
        Ok(_) => false,
        Err(e) if e.kind() == ErrorKind::Stale => true,
        Err(e) => panic!("{e}"),
    };
    bus.publish_all(batch).await.into_iter().map(told).collect()
}

#[tokio::test]
async fn a_tick_is_stored_once_whoever_publishes_it_again_and_a_step_from_elsewhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let (one, two) = (Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap());
    let tick = |from: u64, offset: u64| {
        let to = Position { offset, fingerprint: 7 };
        let position = Some(Advance { input: "schedule:beat".into(), from, to });
        let event = Event::new("tick").id(format!("tick-{offset}")).payload(offset);
        Outgoing { position, ..event.into() }
    };
    // The same step a second time, by whoever made it and by another member.
    assert_eq!(stale(&one, &[tick(0, 60)]).await, [false]);
    assert_eq!(stale(&one, &[tick(0, 60)]).await, [true]);
    assert_eq!(stale(&two, &[tick(0, 60)]).await, [true]);
    // From before what is stored, from after it, and from the middle: of such a batch nothing.
    for wrong in [tick(0, 120), tick(120, 180), tick(59, 120), tick(61, 120)] {
        assert_eq!(stale(&two, std::slice::from_ref(&wrong)).await, [true], "{:?}", wrong.position);
    }
    assert_eq!(stale(&two, &[tick(60, 120), tick(60, 180)]).await, [true, true]);
    assert_eq!(stale(&two, &[tick(60, 120), tick(120, 180)]).await, [false, false]);
    let position = one.accounts().unwrap().position("schedule:beat").await.unwrap().unwrap();
    assert_eq!((position.offset, position.fingerprint), (180, 7));
    for bus in [one, two] {
        bus.close().await.unwrap();
    }
    let store = rusqlite::Connection::open(folder.path().join("events.db")).unwrap();
    let mut stored = store.prepare("SELECT id FROM events ORDER BY seq").unwrap();
    let stored = stored.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let stored: Vec<_> = stored.map(Result::unwrap).collect();
    assert_eq!(stored, ["tick-60", "tick-120", "tick-180"]);
}

#[tokio::test]
async fn three_buses_on_one_file_with_clocks_apart_store_each_tick_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let (handled, mut all) = mpsc::unbounded_channel::<(usize, String)>();
    let mut buses = Vec::new();
    for member in 0..3_usize {
        let bus = Bus::open(&url).await.unwrap();
        let handled = handled.clone();
        bus.on("tick")
            .group("workers")
            .named("work")
            .run(move |event: &Event| drop(handled.send((member, event.id().into()))))
            .await
            .unwrap();
        let often = Schedule::every(Duration::from_millis(20)).unwrap().missed(Missed::All);
        let ahead = Duration::from_millis(700 * member as u64);
        let often = bus.schedule("often", often).clock(move || Timestamp::now().after(ahead));
        often.event(|_| Event::new("tick")).unwrap();
        buses.push(bus);
    }
    let mut ids = Vec::new();
    while ids.len() < 100 {
        ids.push(all.recv().await.unwrap().1);
    }
    for bus in buses {
        bus.close().await.unwrap();
    }
    while let Ok((_, id)) = all.try_recv() {
        ids.push(id);
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a tick was handled twice");
}

#[tokio::test(start_paused = true)]
async fn a_schedule_ends_with_its_bus_and_when_it_is_cancelled() {
    let bus = Bus::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let on = bus.on("tick").run(move |event: &Event| note.lock().unwrap().push(event.clone()));
    on.now().unwrap();
    let wall = Wall::new();
    let told = wall.clone();
    let beat = bus.schedule("beat", minutely(Missed::Latest)).clock(move || told.now());
    let beat = beat.event(|tick| Event::new("tick").payload(tick.at().to_string())).unwrap();
    let century = Schedule::at(["2100-01-01T00:00:00Z"]).unwrap();
    let century = bus.schedule("century", century).event(|_| Event::new("tick")).unwrap();
    tokio::time::sleep(MINUTE * 3).await; // sleep: on a paused clock, it takes no time.
    let count = || seen.lock().unwrap().len();
    assert_eq!(count(), 3);
    beat.cancel();
    tokio::time::sleep(MINUTE * 3).await; // sleep: as above.
    assert_eq!(count(), 3);
    bus.idle().await.unwrap();
    assert!(!century.is_cancelled());
    bus.close().await.unwrap();
    assert!(century.is_cancelled());
    let closed = bus.schedule("late", minutely(Missed::Latest)).event(|_| Event::new("tick"));
    assert!(closed.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_nobody_has_any_more_ends_its_schedules() {
    let bus = Bus::new();
    let alive = Arc::new(());
    let gone = Arc::downgrade(&alive);
    let beat = bus.schedule("beat", minutely(Missed::Latest));
    beat.event(move |_| Event::new("tick").metadata("alive", format!("{alive:?}"))).unwrap();
    drop(bus);
    tokio::time::sleep(MINUTE * 2).await; // sleep: on a paused clock, it takes no time.
    assert!(gone.upgrade().is_none());
}
