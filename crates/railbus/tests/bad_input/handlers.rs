//! Handlers and predicates that misbehave.

use crate::stage::{Stage, captured, gone};
use railbus::{
    Bus, ErrorKind, Event, Payload, Subscription,
    delivery::{Delivery, Outcome},
    handler::{Call, Called, Handler},
    predicate::{Predicate, event_type, has_key},
    testing::Recorder,
};
use std::{
    fmt,
    panic::panic_any,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// An error that can't even be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Unspeakable {}

#[railbus::test]
async fn a_handler_that_panics_is_a_failure_of_its_own_however_it_panics() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let on = |name| stage.on("a").named(name);
        let (one, two, three) = (Arc::clone(&held), Arc::clone(&held), Arc::clone(&held));
        let received = Recorder::new();
        let openings = vec![
            on("sync")
                .run(move |_: &Event| -> () { panic!("at once {}", Arc::strong_count(&one)) }),
            on("async").run(async move |_: Event| {
                let _two = &two;
                tokio::task::yield_now().await;
                assert_eq!(1, 2, "later");
            }),
            on("value").run(move |_: &Event| -> () { panic_any(Arc::clone(&three)) }),
            on("error").run(|_: &Event| Err::<(), _>(Unspeakable)),
            on("argument").run(|_: Payload<Bomb>| {}),
            on("well").run(received.clone()),
        ];
        drop(held);
        stage.bus.open_all(openings).await.unwrap();
        for _ in 0..2 {
            let report = stage.bus.publish(Event::new("a").payload(1)).await.unwrap();
            assert_eq!(report.matched, 6, "{stage}");
        }
        received.wait_for(2).await;
        stage.bus.idle().await.unwrap();
        let mut told = match stage.grouped {
            true => stage.letters().await,
            false => Vec::new(),
        };
        let counters = stage.bus.counters();
        match stage.grouped {
            true => assert_eq!(told.len(), 10, "{stage}: {told:?}"),
            false => assert_eq!(counters.failed.get(), 10, "{stage}"),
        }
        if stage.is_inside() {
            let report = stage.bus.publish(Event::new("a").payload(1)).await.unwrap();
            told.extend(report.failures.into_iter().map(|failure| failure.error));
        }
        for said in
            ["panicked: at once", "panicked: assertion", "no message", "can't be shown", "boom"]
        {
            let found = told.iter().any(|reason| reason.contains(said));
            assert!(found || told.is_empty(), "{stage}: {said} is not in {told:?}");
        }
        assert_eq!(counters.succeeded.get(), received.len() as u64, "{stage}");
        stage.end(watched).await;
    }
}

/// A payload whose `Deserialize` panics.
struct Bomb;

impl<'de> serde::Deserialize<'de> for Bomb {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("boom")
    }
}

#[railbus::test]
async fn a_handler_that_never_returns_ends_at_the_deadline_of_close() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let (begins, mut begun) = mpsc::unbounded_channel();
        let hang = async move |_: Event| {
            let _held = &held;
            begins.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        stage.on("a").run(hang).await.unwrap();
        let bus = stage.bus.clone();
        let publishing = tokio::spawn(async move { bus.publish(Event::new("a")).await });
        begun.recv().await.unwrap();
        // A publisher that has had enough stops waiting; the handler ends with it.
        if stage.is_inside() {
            publishing.abort();
        } else {
            publishing.await.unwrap().unwrap();
        }
        stage.end_within(Duration::from_millis(50), watched).await;
    }
}

#[railbus::test]
async fn a_try_that_never_returns_ends_at_the_deadline_of_close() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let (begins, mut begun) = mpsc::unbounded_channel();
        let hang = async move |d: Delivery| {
            let _held = &held;
            if d.attempt() == 1 {
                return Err::<(), _>("again");
            }
            begins.send(()).unwrap();
            std::future::pending().await
        };
        let retry = railbus::Retry::attempts(2).backoff_factor(Duration::from_millis(1));
        stage.untried("a").retry(retry).run(hang).await.unwrap();
        stage.bus.publish(Event::new("a")).await.unwrap();
        begun.recv().await.unwrap();
        stage.end_within(Duration::from_millis(50), watched).await;
    }
}

#[railbus::test]
async fn a_handler_that_publishes_to_itself_is_stopped_by_depth_or_by_close() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let (tells, mut told) = mpsc::unbounded_channel();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let again = async move |bus: Bus| {
            let _held = &held;
            count.fetch_add(1, SeqCst);
            let published = Box::pin(bus.publish(Event::new("a"))).await;
            let _ = tells.send(published.err());
        };
        stage.on("a").run(again).await.unwrap();
        stage.bus.publish(Event::new("a")).await.unwrap();
        if stage.is_inside() {
            // The innermost is told, and only that.
            let error = told.recv().await.unwrap().unwrap();
            assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
            assert!(error.to_string().contains("64 events deep"), "{error}");
            assert!(error.advice().unwrap().contains("publishes what it handles"), "{error}");
            assert_eq!(calls.load(SeqCst), 64);
            for _ in 1..64 {
                assert!(told.recv().await.unwrap().is_none());
            }
        } else {
            for _ in 0..100 {
                told.recv().await.unwrap();
            }
        }
        stage.end(watched).await;
    }
}

#[test]
fn a_sync_handler_that_emits_to_itself_is_stopped_by_depth() {
    for url in ["memory:", "memory:?wire=always"] {
        let bus = crate::runtimes::block_on(Bus::open(url)).unwrap();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&errors);
        let again = move |e: Event, bus: Bus| {
            let error = bus.emit(e).err();
            noted.lock().unwrap().push(error);
        };
        bus.on("a").run(again).now().unwrap();
        bus.emit(Event::new("a").payload("x")).unwrap();
        let errors = errors.lock().unwrap();
        assert_eq!(errors.len(), 64);
        assert_eq!(errors[0].as_ref().unwrap().kind(), ErrorKind::Overloaded);
        assert!(errors[1..].iter().all(Option::is_none));
    }
}

#[railbus::test]
async fn a_handler_that_cancels_itself_is_let_go_with_what_it_captured() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let (tells, mut told) = mpsc::unbounded_channel();
        let own: Arc<OnceLock<Subscription>> = Arc::default();
        // Weak: a handler that owned its own subscription would be a cycle.
        let slot = Arc::downgrade(&own);
        let once = async move |bus: Bus| {
            let _held = &held;
            let own = slot.upgrade().unwrap();
            let own = own.get().unwrap();
            own.cancel();
            own.cancel();
            tells.send(bus.unsubscribe(own.id())).unwrap();
        };
        let subscription = stage.one_by_one("a").run(once).await.unwrap();
        own.set(subscription).unwrap();
        let event = || Event::new("a").payload(1);
        stage.bus.publish(event()).await.unwrap();
        assert_eq!(told.recv().await, Some(false), "{stage}");
        stage.bus.publish(event()).await.unwrap();
        drop(own);
        // Its sender goes with it, although the bus lives on.
        assert_eq!(told.recv().await, None, "{stage}");
        assert_eq!(watched.strong_count(), 0, "{stage}");
        stage.end(watched).await;
    }
}

#[railbus::test]
async fn a_handler_may_drop_the_last_of_its_bus() {
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let (tells, mut told) = mpsc::unbounded_channel();
        let (what, inside) = (stage.to_string(), stage.is_inside());
        let last: Arc<Mutex<Option<Stage>>> = Arc::default();
        let slot = Arc::clone(&last);
        let handler = async move |_: Event| {
            let _held = &held;
            while slot.lock().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
            drop(slot.lock().unwrap().take());
            tells.send(()).unwrap();
        };
        stage.on("a").run(handler).await.unwrap();
        let bus = stage.bus.clone();
        let publishing = async move { bus.publish(Event::new("a").payload(1)).await };
        if inside {
            last.lock().unwrap().replace(stage);
            assert_eq!(publishing.await.unwrap().matched, 1);
        } else {
            publishing.await.unwrap();
            last.lock().unwrap().replace(stage);
        }
        told.recv().await.unwrap();
        gone(&what, &watched).await;
    }
}

#[railbus::test]
async fn a_predicate_that_panics_is_a_failure_of_its_subscription_alone() {
    let panics = || Predicate::from(|e: &Event| e.get::<i64>("n").expect("an n") > 3);
    for stage in Stage::all().await {
        let (held, watched) = captured();
        let received = Recorder::new();
        let never = move |_: &Event| panic!("{} run", Arc::strong_count(&held));
        stage.on(panics() & !has_key("x")).named("picky").run(never).await.unwrap();
        let or = Predicate::from("a") | panics();
        stage.on(or).named("or").run(received.clone()).await.unwrap();
        let report = stage.bus.publish(Event::new("a").payload("no map")).await.unwrap();
        assert_eq!(report.matched, 2, "{stage}");
        received.wait_for(1).await;
        stage.bus.idle().await.unwrap();
        if stage.grouped {
            let letters = stage.letters().await;
            let said = letters[0].contains("the predicate panicked: an n");
            assert!(said && letters.len() == 1, "{stage}: {letters:?}");
        } else {
            assert_eq!(stage.bus.counters().failed.get(), 1, "{stage}");
        }
        drop(received);
        stage.end(watched).await;
    }
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct Explodes;

impl fmt::Display for Explodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tick tick")
    }
}

impl std::error::Error for Explodes {}

impl Drop for Explodes {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped");
    }
}

#[railbus::test]
async fn what_a_broadcast_failed_of_may_panic_as_it_is_dropped() {
    let bus = Bus::new();
    let received = Recorder::new();
    bus.on("*sync").priority(9).run(received.clone()).now().unwrap();
    bus.on("sync").run(|_: &Event| Err::<(), _>(Explodes)).now().unwrap();
    bus.on("sync").run(|_: &Event| -> () { panic_any(Explodes) }).now().unwrap();
    let report = bus.emit(Event::new("sync")).unwrap();
    assert_eq!((report.failures.len(), received.len()), (2, 1));
    bus.on("async").run(async |_: Event| Err::<(), _>(Explodes)).now().unwrap();
    bus.on("async").run(async |_: Event| -> () { panic_any(Explodes) }).now().unwrap();
    let report = bus.publish(Event::new("async")).await.unwrap();
    assert_eq!((report.failures.len(), received.len()), (2, 2));
    assert_eq!(report.failures[0].error, "tick tick");
}

#[test]
fn a_panic_after_a_predicate_that_said_no_is_the_handlers() {
    let bus = Bus::new();
    bus.on(event_type("a") & has_key("x")).run(|_: &Event| {}).now().unwrap();
    bus.on("a").run(|_: &Event| -> () { panic!("boom") }).now().unwrap();
    let report = bus.emit(Event::new("a").payload(1)).unwrap();
    assert!(!report.failures[0].error.contains("predicate"), "{:?}", report.failures);
}

/// A handler that says it needs no awaiting, and does.
struct Lies;

impl Handler<()> for Lies {
    const ASYNC: bool = false;

    fn call<'a>(&'a self, _: Call<'a>) -> Called<'a> {
        Called::Later(Box::pin(async { Outcome::Done }))
    }
}

#[test]
fn emitting_to_a_handler_that_hides_that_it_is_async_is_a_failure_that_says_so() {
    let bus = Bus::new();
    let received = Recorder::new();
    bus.on("a").named("lies").run(Lies).now().unwrap();
    bus.on("a").run(received.clone()).now().unwrap();
    let report = bus.emit(Event::new("a")).unwrap();
    assert_eq!((report.failures.len(), received.len()), (1, 1));
    let failure = &report.failures[0];
    assert_eq!(failure.subscription, "lies");
    assert!(failure.error.contains("set ASYNC to true"), "{failure:?}");
}
