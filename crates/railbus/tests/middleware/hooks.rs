//! Hooks: when they are called, and what becomes of an event when one fails.

use railbus::{
    BoxError, Bus, ErrorKind, Event, Retry,
    backend::LetterFilter,
    delivery::{Delivery, Outcome},
    middlewares::{Hooks, after, before, on_error},
    testing::Recorder,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// What was called, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[async_trait::async_trait]
impl Hooks for Log {
    async fn before(&self, d: &Delivery) -> Result<(), BoxError> {
        self.note(format!("before {} {}", d.event_type(), d.attempt()));
        Ok(())
    }

    async fn after(&self, d: &Delivery, outcome: &Outcome) {
        self.note(format!("after {} {outcome:?}", d.event_type()));
    }

    async fn on_error(&self, d: &Delivery, error: &BoxError) {
        self.note(format!("error {} {error}", d.event_type()));
    }
}

/// Fails in the way that the type names.
fn by_type(event: &Event) -> Result<Outcome, BoxError> {
    match event.event_type() {
        "fails" => Err("no".into()),
        "panics" => panic!("ouch"),
        "dies" => Ok(Outcome::DeadLetter("never".into())),
        "skips" => Ok(Outcome::Skip),
        _ => Ok(Outcome::Done),
    }
}

async fn told_around(bus: &Bus, log: &Log) {
    let expected = [
        ("passes", "after passes Done"),
        ("fails", "error fails no"),
        ("panics", "error panics handler: panicked: ouch"),
        ("dies", "error dies never"),
        ("skips", "after skips Skip"),
    ];
    for (event_type, then) in expected {
        let report = bus.publish(Event::new(event_type)).await.unwrap();
        assert_eq!(log.take(), [format!("before {event_type} 1"), then.into()]);
        assert_eq!(report.failures.len(), usize::from(then.starts_with("error")));
        assert_eq!(report.matched, usize::from(event_type != "skips"), "the outcome stays");
    }
}

#[railbus::test]
async fn hooks_are_called_around_a_sync_handler_whatever_comes_of_it() {
    let (bus, log) = (Bus::new(), Log::default());
    bus.on("*s").layer(log.clone()).run(by_type).await.unwrap();
    told_around(&bus, &log).await;
}

#[railbus::test]
async fn hooks_are_called_around_an_async_handler_whatever_comes_of_it() {
    let (bus, log) = (Bus::new(), Log::default());
    let later = async |event: Event| {
        tokio::task::yield_now().await;
        by_type(&event)
    };
    bus.on("*s").layer(log.clone()).run(later).await.unwrap();
    told_around(&bus, &log).await;
}

#[railbus::test]
async fn hooks_are_called_at_each_try() {
    let (bus, log) = (Bus::open("memory:").await.unwrap(), Log::default());
    let twice = Retry::attempts(2).backoff(Duration::from_millis(1));
    let on = bus.on("fails").group("g").retry(twice).layer(log.clone());
    on.run(by_type).await.unwrap();
    bus.publish(Event::new("fails")).await.unwrap();
    bus.idle().await.unwrap();
    let both = ["before fails 1", "error fails no", "before fails 2", "error fails no"];
    assert_eq!(log.take(), both);
}

/// Breaks where it is told to, by an error or a panic.
struct Broken(&'static str, bool);

impl Broken {
    fn at(&self, place: &str) -> Result<(), BoxError> {
        match self.0 == place {
            false => Ok(()),
            true if self.1 => panic!("the hook at {place} panicked"),
            true => Err(format!("the hook at {place} failed").into()),
        }
    }
}

#[async_trait::async_trait]
impl Hooks for Broken {
    async fn before(&self, _: &Delivery) -> Result<(), BoxError> {
        self.at("before")
    }

    async fn after(&self, _: &Delivery, _: &Outcome) {
        self.at("after").unwrap_or_default();
    }

    async fn on_error(&self, _: &Delivery, _: &BoxError) {
        self.at("on_error").unwrap_or_default();
    }
}

#[railbus::test]
async fn a_hook_that_breaks_loses_no_event_and_reruns_no_handler() {
    for (place, panics, reason) in [
        ("before", false, Some("the hook at before failed")),
        ("before", true, Some("a hook before the handler panicked: the hook at before panicked")),
        ("after", true, None),
        ("on_error", true, Some("no")),
    ] {
        let (bus, seen) = (Bus::open("memory:").await.unwrap(), Recorder::new());
        let twice = Retry::attempts(2).backoff(Duration::from_millis(1));
        let on = bus.on("*").group("g").retry(twice).layer(Broken(place, panics));
        let (noted, fails) = (seen.clone(), place == "on_error");
        let handler = move |event: &Event| {
            railbus::SyncHandler::handle(&noted, event)?;
            if fails { Err(BoxError::from("no")) } else { Ok(()) }
        };
        on.run(handler).await.unwrap();
        bus.publish(Event::new("tick")).await.unwrap();
        bus.idle().await.unwrap();
        let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
        match reason {
            // It was tried as often as the policy says, and is kept.
            Some(reason) => {
                assert_eq!((letters.len(), letters[0].attempts), (1, 2), "{place}");
                assert!(letters[0].reason.contains(reason), "{}", letters[0].reason);
                assert_eq!(seen.len(), if fails { 2 } else { 0 }, "{place}");
            }
            None => assert_eq!((letters.len(), seen.len()), (0, 1), "{place}"),
        }
    }
}

#[railbus::test]
async fn closures_are_hooks_sync_and_async() {
    let (bus, log) = (Bus::new(), Log::default());
    let [a, b, c, d, e, f] = [(); 6].map(|()| log.clone());
    bus.on("*s")
        .layer(before(move |d: &Delivery| a.note(format!("1 {}", d.event_type()))))
        .layer(before(async move |d: Delivery| b.note(format!("2 {}", d.event_type()))))
        .layer(after(move |_: &Delivery| c.note("4")))
        .layer(after(async move |_: Delivery| {
            d.note("3");
            Err::<(), _>("an error after the fact changes nothing")
        }))
        .layer(on_error(move |_: &Delivery, error: &BoxError| e.note(format!("4 {error}"))))
        .layer(on_error(async move |_: Delivery, error: String| f.note(format!("3 {error}"))))
        .run(by_type)
        .await
        .unwrap();
    assert!(bus.publish(Event::new("passes")).await.unwrap().failures.is_empty());
    assert_eq!(log.take(), ["1 passes", "2 passes", "3", "4"]);
    assert_eq!(bus.publish(Event::new("fails")).await.unwrap().failures[0].error, "no");
    assert_eq!(log.take(), ["1 fails", "2 fails", "3 no", "4 no"]);
}

#[railbus::test]
async fn what_before_refuses_is_told_to_who_is_around_it_and_not_acknowledged() {
    let (bus, log) = (Bus::new(), Log::default());
    let unknown = |d: &Delivery| if d.source().is_empty() { Err("who are you?") } else { Ok(()) };
    let on = bus.on("passes").layer(log.clone()).layer(before(unknown));
    on.run(by_type).await.unwrap();
    let report = bus.publish(Event::new("passes")).await.unwrap();
    assert_eq!(report.failures[0].error, "who are you?");
    assert_eq!(log.take(), ["before passes 1", "error passes who are you?"]);
}

#[railbus::test]
async fn a_hook_around_one_event_of_a_broadcasts_batch_is_refused() {
    let bus = Bus::new();
    let on = bus.on("tick").batch(2, Duration::from_secs(1)).layer(Log::default());
    let refused = on.run(async |_: railbus::Batch<u32>| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.advice().unwrap().contains("give the subscription a group"), "{refused:?}");
}
