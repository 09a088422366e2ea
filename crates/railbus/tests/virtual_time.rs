//! Virtual time: retries, leases, delays and schedules, each at its time; doubles that fail.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry, Schedule,
    backends::memory::Memory,
    clock::Timestamp,
    testing::{self, Double, Faulty, Recorder},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a handler that takes down after how many seconds it is called, and what it took down.
fn times() -> (impl Fn() + Clone + Send + Sync + 'static, Arc<Mutex<Vec<u64>>>) {
    let (began, times) = (Timestamp::now(), Arc::<Mutex<Vec<u64>>>::default());
    let of = times.clone();
    (move || of.lock().unwrap().push(Timestamp::now().since(began).as_secs()), times)
}

#[railbus::test(time = "virtual")]
async fn retries_come_minutes_later() -> railbus::Result<()> {
    let (bus, (note, times)) = (testing::bus().await?, times());
    let retry = Retry::attempts(5).backoff(secs(60)).max_backoff(secs(3600));
    let fails = move |_: &Event| {
        note();
        Err::<(), _>("no")
    };
    bus.on("a").group("g").retry(retry.clone()).run(fails.clone()).await?;
    bus.publish(Event::new("a")).await?;
    bus.idle().await?;
    assert_eq!(*times.lock().unwrap(), [0, 60, 180, 420, 900]);
    times.lock().unwrap().clear();
    bus.on("b").retry(retry).run(fails).await?;
    bus.publish(Event::new("b")).await?;
    bus.idle().await?;
    assert_eq!(*times.lock().unwrap(), [900, 960, 1080, 1320, 1800], "a broadcast's, too");
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn a_lease_is_kept_for_as_long_as_a_handler_takes() -> railbus::Result<()> {
    let memory = Memory::default();
    let slow = Double::new("slow").takes(secs(3600));
    let buses = [Bus::over(Arc::new(memory.connect())), Bus::over(Arc::new(memory.connect()))];
    for bus in &buses {
        bus.on("a").group("g").lease(secs(30)).run(slow.clone()).await?;
    }
    buses[0].publish(Event::new("a")).await?;
    buses[0].idle().await?;
    assert_eq!(slow.calls(), 1);
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn a_lease_that_is_not_renewed_ends_at_its_time() -> railbus::Result<()> {
    let (faulty, (note, times)) = (Faulty::new(Memory::default()), times());
    let (bus, began) = (faulty.bus(), Double::new("began").hangs(1));
    let (called, of) = (began.clone(), note.clone());
    let handle = async move |event: Event| {
        of();
        railbus::AsyncHandler::handle(&called, &event).await
    };
    bus.on("a").group("g").lease(secs(30)).run(handle).await?;
    faulty.renewals().always().forget();
    bus.publish(Event::new("a")).await?;
    began.until_called(2).await;
    assert_eq!(*times.lock().unwrap(), [0, 30]);
    Ok(())
}

#[cfg(feature = "cron")]
#[railbus::test(time = "virtual")]
async fn a_cron_schedule_of_a_day_comes_at_its_hours() -> railbus::Result<()> {
    let (bus, seen) = (testing::bus().await?, Recorder::new());
    bus.on("due").run(seen.clone()).await?;
    let time = testing::time();
    time.set_wall_clock("2026-03-28T12:00:00Z".parse()?);
    // The clocks of Berlin go forward from 02:00 to 03:00 in this night.
    let hourly = Schedule::cron("30 */2 * * *")?.time_zone("Europe/Berlin")?;
    let _hourly = bus.schedule("hourly", hourly).event(|_| Event::new("due"))?;
    time.advance(secs(86_400)).await;
    let at = |event: &Event| event.timestamp().to_string()[11..16].to_owned();
    let at: Vec<_> = seen.events().iter().map(at).collect();
    let wanted = ["13", "15", "17", "19", "21", "23", "02", "04", "06", "08", "10"];
    assert_eq!(at, wanted.map(|hour| format!("{hour}:30")));
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn what_is_held_back_for_days_comes_in_order() -> railbus::Result<()> {
    let (bus, seen) = (testing::bus().await?, Recorder::new());
    bus.on("*").group("g").run(seen.clone()).await?;
    for days in [3, 1, 2] {
        let event = Event::new(format!("day-{days}")).delay(secs(days * 86_400));
        bus.publish(event).await?;
    }
    testing::time().advance(secs(36 * 3600)).await;
    assert_eq!(seen.types(), ["day-1"]);
    seen.wait_for(3).await;
    assert_eq!(seen.types(), ["day-1", "day-2", "day-3"]);
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn threads_of_the_runtime_see_the_same_wall_clock() {
    testing::time().advance(secs(1000)).await;
    let there = tokio::task::spawn_blocking(Timestamp::now).await.unwrap();
    assert_eq!(there, Timestamp::now());
    assert_eq!(there.to_string(), "2026-01-01T00:16:40.000000Z");
    assert_eq!(Event::new("a").build_at(), there);
}

trait BuiltAt {
    fn build_at(self) -> Timestamp;
}

impl<E: railbus::IntoEvent> BuiltAt for E {
    fn build_at(self) -> Timestamp {
        std::borrow::Borrow::<Event>::borrow(&self.into_event()).timestamp()
    }
}

#[railbus::test]
#[should_panic(expected = "write #[railbus::test(time = \"virtual\")]")]
async fn where_time_is_real_it_says_how_it_is_not() {
    let _ = testing::time();
}

#[railbus::test(time = "virtual")]
async fn publishing_fails_as_a_test_says() -> railbus::Result<()> {
    let (faulty, seen) = (Faulty::new(Memory::default()), Recorder::new());
    let bus = faulty.bus();
    bus.on("a").group("g").run(seen.clone()).await?;
    let publish = async || bus.publish(Event::new("a")).await.map(drop);
    let stored = async || {
        bus.idle().await.unwrap();
        let count = seen.len();
        seen.clear();
        count
    };
    faulty.publishes().nth(2).fail();
    assert!(publish().await.is_ok());
    let error = publish().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true));
    assert!(error.to_string().contains("a fault that the test asked for"), "{error}");
    assert!(publish().await.is_ok());
    assert_eq!(stored().await, 2);
    faulty.publishes().lose_answer();
    assert!(publish().await.is_err());
    assert_eq!(stored().await, 1, "it was stored");
    faulty.publishes().duplicate();
    faulty.publishes().nth(2).forget();
    assert!(publish().await.is_ok() && publish().await.is_ok());
    assert_eq!(stored().await, 2, "one is there twice, and one is not");
    let began = Timestamp::now();
    faulty.publishes().delay(secs(7));
    assert!(publish().await.is_ok());
    assert_eq!(Timestamp::now().since(began), secs(7));
    faulty.publishes().during(secs(60)).refuse();
    assert_eq!(publish().await.unwrap_err().kind(), ErrorKind::Stale);
    testing::time().advance(secs(61)).await;
    assert!(publish().await.is_ok());
    faulty.publishes().always().hang();
    let hung = tokio::time::timeout(secs(3600), publish()).await;
    assert!(hung.is_err());
    faulty.heal();
    assert!(publish().await.is_ok());
    assert_eq!(faulty.happened(), 7);
    // Each of a batch counts for itself.
    faulty.publishes().nth(2).fail();
    let three = [1, 2, 3].map(|n| Event::new("a").payload(n).into());
    let results: Vec<_> = bus.publish_all(&three).await.iter().map(Result::is_ok).collect();
    assert_eq!(results, [true, false, true]);
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn publishing_fails_even_if_no_group_wants_it() -> railbus::Result<()> {
    let (faulty, seen) = (Faulty::new(Memory::default()), Recorder::new());
    let bus = faulty.bus();
    bus.on("a").run(seen.clone()).await?;
    faulty.publishes().fail();
    assert!(bus.publish(Event::new("a")).await.is_err());
    assert!(bus.publish(Event::new("a")).await.is_ok());
    assert_eq!(seen.len(), 1);
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn fetching_and_settling_fail_as_a_test_says() -> railbus::Result<()> {
    let (faulty, handler) = (Faulty::new(Memory::default()), Double::new("handler"));
    let bus = faulty.bus();
    bus.on("a").group("g").lease(secs(30)).run(handler.clone()).await?;
    let calls = async || {
        let before = handler.calls();
        bus.publish(Event::new("a")).await.unwrap();
        bus.idle().await.unwrap();
        handler.calls() - before
    };
    assert_eq!(calls().await, 1);
    // The one that waits for events now is the first.
    faulty.fetches().times(3).fail();
    assert_eq!(calls().await, 1);
    faulty.until_happened(3).await;
    faulty.fetches().lose_answer();
    let began = Timestamp::now();
    assert_eq!(calls().await, 1);
    assert!(Timestamp::now().since(began) >= secs(30), "it comes when the lease ends");
    faulty.settlements().times(2).fail();
    assert_eq!(calls().await, 1, "it is settled at the next try");
    faulty.settlements().duplicate();
    assert_eq!(calls().await, 2);
    faulty.settlements().forget();
    assert_eq!(calls().await, 2);
    faulty.settlements().refuse();
    assert_eq!(calls().await, 2);
    faulty.settlements().lose_answer();
    assert_eq!(calls().await, 1);
    faulty.fetches().duplicate();
    assert_eq!(calls().await, 2);
    Ok(())
}

#[railbus::test(time = "virtual")]
async fn what_is_watched_reads_well_when_it_is_otherwise() -> railbus::Result<()> {
    let bus = testing::bus().await?;
    let seen = testing::watch(&bus);
    bus.on("a").named("first").run(|_: &Event| Err::<(), _>("no money")).await?;
    bus.publish(Event::new("a").id("1")).await?;
    let of = seen.clone();
    let said = tokio::spawn(async move { of.delivered().of("b.*").to("first").assert_count(2) });
    let said = said.await.unwrap_err().into_panic();
    let said = said.downcast_ref::<String>().unwrap();
    let begins = "expected: 2 delivered of `b.*` at `first`\ncame: nothing\nall that was seen:\n  \
                  published a 1\n  delivered a 1 at first, try 1\n  failed    a 1 at first, try 1: \
                  no money";
    assert!(said.starts_with(begins), "{said}");
    let of = seen.clone();
    let line = line!() + 1;
    let waits = tokio::spawn(async move { of.until(|seen| seen.succeeded().count() > 0).await });
    let said = waits.await.unwrap_err().into_panic();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.starts_with(&format!("{}:{line}:", file!())), "{said}");
    assert!(said.contains("did not come in 2678400s; what was seen:\n  published a 1"), "{said}");
    Ok(())
}
