//! Programs without a runtime.

use railbus::{Bus, ErrorKind, Event, Retry, testing::Recorder};
use std::{
    future::Future,
    pin::pin,
    sync::{Arc, mpsc::channel},
    task::{Context, Poll, Wake},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// Awaits without a runtime.
pub(crate) fn block_on<F: Future>(work: F) -> F::Output {
    struct Waker(Thread);
    impl Wake for Waker {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Waker(thread::current())).into();
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs a test on a thread of its own, so that one that hangs fails.
pub(crate) fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (tells, told) = channel();
    let running = thread::spawn(move || {
        test();
        tells.send(()).unwrap();
    });
    if told.recv_timeout(Duration::from_secs(60)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    {
        panic!("it hangs");
    }
    running.join().unwrap();
}

#[test]
fn without_a_runtime_broadcasts_in_memory_work_and_the_bus_closes() {
    within_a_minute(|| {
        for url in ["memory:", "memory:?wire=always"] {
            let bus = block_on(Bus::open(url)).unwrap();
            let received = Recorder::new();
            let recorder = received.clone();
            bus.on("a").run(received.clone()).now().unwrap();
            let again = async move |e: Event, bus: Bus| {
                assert!(recorder.len() < 9);
                drop(bus.publish(Event::new("a").payload(e.id().to_owned())).await.unwrap());
            };
            block_on(async { bus.on("b").run(again).await }).unwrap();
            assert_eq!(bus.emit(Event::new("a")).unwrap().matched, 1);
            assert_eq!(block_on(bus.publish(Event::new("b"))).unwrap().matched, 1);
            block_on(bus.idle()).unwrap();
            assert_eq!(received.len(), 2);
            block_on(bus.close()).unwrap();
            block_on(bus.close()).unwrap();
            assert_eq!(bus.emit(Event::new("a")).unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn without_a_runtime_what_needs_one_says_so_before_anything_ran() {
    within_a_minute(|| {
        let bus = Bus::new();
        let received = Recorder::new();
        let needs = |error: railbus::Error| {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let said = format!("{error} {}", error.advice().unwrap_or_default());
            assert!(said.contains("runtime"), "{said}");
        };
        needs(block_on(async { bus.on("a").group("g").run(received.clone()).await }).unwrap_err());
        needs(bus.on("a").group("g").run(received.clone()).now().unwrap_err());
        needs(block_on(bus.publish(Event::new("a").delay(Duration::from_secs(1)))).unwrap_err());
        let later = bus.on("a").run(async |_: Event| {}).now().unwrap();
        assert_eq!(bus.emit(Event::new("a")).unwrap_err().kind(), ErrorKind::Unsupported);
        later.cancel();
        let failing = |_: &Event| Err::<(), _>("no");
        let retried = bus.on("a").retry(Retry::attempts(2)).run(failing).now().unwrap();
        needs(bus.emit(Event::new("a")).unwrap_err());
        retried.cancel();
        assert!(received.is_empty());
        assert_eq!(bus.counters().published.get(), 0);
    });
}

#[test]
fn without_a_runtime_a_try_that_can_not_be_repeated_is_told_as_a_failure() {
    within_a_minute(|| {
        let bus = Bus::new();
        let failing = |_: &Event| Err::<(), _>("no");
        bus.on("a").named("once").retry(Retry::attempts(2)).run(failing).now().unwrap();
        let report = block_on(bus.publish(Event::new("a"))).unwrap();
        assert_eq!((report.matched, report.retrying, report.failures.len()), (1, 0, 1));
        assert_eq!((&*report.failures[0].subscription, &*report.failures[0].error), ("once", "no"));
        assert_eq!(bus.counters().failed.get(), 1);
    });
}

#[test]
fn without_a_runtime_a_file_says_that_it_needs_one() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("events.db").display());
        let error = block_on(Bus::open(&url)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.advice().unwrap().contains("tokio runtime"), "{error}");
        // Opened in one, it is used from outside.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bus = runtime.block_on(Bus::open(&url)).unwrap();
        let received = Recorder::new();
        let error = block_on(async { bus.on("a").run(received.clone()).await }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        runtime.block_on(async { bus.on("a").group("g").run(received).await }).unwrap();
        assert_eq!(block_on(bus.publish(Event::new("a"))).unwrap().matched, 1);
        block_on(bus.close()).unwrap();
    });
}

#[test]
fn without_a_runtime_closing_ends_at_its_deadline_though_a_handler_hangs() {
    within_a_minute(|| {
        let bus = Bus::new();
        let (begins, begun) = channel();
        let hang = async move |_: Event| {
            begins.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        block_on(async { bus.on("a").run(hang).await }).unwrap();
        let publisher = bus.clone();
        thread::spawn(move || block_on(publisher.publish(Event::new("a"))));
        begun.recv().unwrap();
        let (deadline, began) = (Duration::from_millis(50), Instant::now());
        block_on(bus.close_within(deadline)).unwrap();
        assert!(began.elapsed() >= deadline, "it waited for the handler");
    });
}

#[test]
fn a_bus_outlives_the_runtime_it_was_used_in() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = format!("sqlite:{}", folder.path().join("events.db").display());
        for url in ["memory:", &*file] {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let received = Recorder::new();
            let bus = runtime.block_on(async {
                let bus = Bus::open(url).await.unwrap();
                bus.on("a").group("g").run(received.clone()).await.unwrap();
                bus.on("a").run(received.clone()).await.unwrap();
                bus.publish(Event::new("a").payload(())).await.unwrap();
                received.wait_for(2).await;
                bus
            });
            drop(runtime);
            // Nobody is left who could handle it; it does not hang all the same.
            drop(block_on(bus.publish(Event::new("a").payload(()))));
            drop(block_on(bus.close_within(Duration::from_millis(50))));
            assert_eq!(bus.emit(Event::new("a")).unwrap_err().kind(), ErrorKind::Closed);
        }
    });
}

#[test]
fn off_its_runtime_a_delayed_event_is_published_all_the_same() {
    within_a_minute(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bus = Bus::new();
        runtime.block_on(async { bus.on("b").group("g").run(|_: &Event| {}).await }).unwrap();
        let received = Recorder::new();
        bus.on("a").run(received.clone()).now().unwrap();
        let delay = Duration::from_millis(1);
        block_on(bus.publish(Event::new("a").delay(delay))).unwrap();
        runtime.block_on(received.wait_for(1));
    });
}

#[test]
fn in_a_runtime_without_a_clock_closing_waits_for_handlers_and_ends_at_its_deadline() {
    within_a_minute(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (deadline, returns) in [(Duration::from_secs(60), true), (Duration::ZERO, false)] {
            runtime.block_on(async {
                let bus = Bus::new();
                let (go, goes) = tokio::sync::watch::channel(false);
                let wait = async move |_: Event| {
                    let _ = goes.clone().wait_for(|go| *go).await;
                };
                bus.on("a").run(wait).await.unwrap();
                let publisher = bus.clone();
                let publishing =
                    tokio::spawn(async move { publisher.publish(Event::new("a")).await });
                tokio::task::yield_now().await;
                let closer = bus.clone();
                let closing = tokio::spawn(async move { closer.close_within(deadline).await });
                tokio::task::yield_now().await;
                assert!(!publishing.is_finished());
                if returns {
                    go.send_replace(true);
                }
                closing.await.unwrap().unwrap();
                assert_eq!(publishing.is_finished(), returns);
            });
        }
    });
}

#[test]
fn without_a_runtime_a_handler_may_close_its_bus() {
    within_a_minute(|| {
        let bus = Bus::new();
        bus.on("a").run(async |bus: Bus| bus.close().await).now().unwrap();
        let report = block_on(bus.publish(Event::new("a"))).unwrap();
        assert!(report.failures.is_empty(), "{report:?}");
        assert_eq!(bus.emit(Event::new("a")).unwrap_err().kind(), ErrorKind::Closed);
    });
}
