//! Groups mean the same in memory and in a file: the same handlers, the same ends.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{Letter, LetterFilter},
    delivery::{Delivery, Nack, Outcome},
    testing::Recorder,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Opens the buses, with what keeps their files.
async fn buses() -> Vec<(Bus, tempfile::TempDir)> {
    let mut buses = Vec::new();
    for scheme in ["memory:", "memory:?wire=always", "sqlite:"] {
        let folder = tempfile::tempdir().unwrap();
        let url = match scheme {
            "sqlite:" => format!("sqlite:{}", folder.path().join("events.db").display()),
            memory => memory.to_owned(),
        };
        buses.push((Bus::open(&url).await.unwrap(), folder));
    }
    buses
}

fn quick(attempts: u32) -> Retry {
    Retry::attempts(attempts).backoff_factor(Duration::from_millis(1))
}

async fn letters(bus: &Bus) -> Vec<Letter> {
    bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap()
}

#[railbus::test]
async fn what_fails_is_tried_again_alone_then_dead_with_its_history_then_redriven_or_purged() {
    for (bus, _folder) in buses().await {
        let calls: Arc<Mutex<Vec<(&str, u32)>>> = Arc::default();
        let healed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let on = |name: &'static str| {
            let (calls, healed) = (Arc::clone(&calls), Arc::clone(&healed));
            let handler = move |d: Delivery| {
                calls.lock().unwrap().push((name, d.attempt()));
                match (name, d.attempt(), healed.load(std::sync::atomic::Ordering::SeqCst)) {
                    ("well", ..) | (.., true) => Outcome::Done,
                    // Goes back into the store, so that another delivery brings it again.
                    (_, 1, _) => {
                        Outcome::Nacked(Nack { reason: "not yet".into(), ..Nack::default() })
                    }
                    _ => Outcome::Failed("no".into()),
                }
            };
            bus.on("a").group("g").named(name).retry(quick(3)).run(handler)
        };
        bus.open_all(vec![on("well"), on("ill")]).await.unwrap();
        bus.publish(Event::new("a").id("1").payload(1)).await.unwrap();
        bus.idle().await.unwrap();
        let expected = [("well", 1), ("ill", 1), ("ill", 2), ("ill", 3)];
        assert_eq!(*calls.lock().unwrap(), expected, "{bus:?}");
        let [letter] = &letters(&bus).await[..] else { panic!("not one letter on {bus:?}") };
        assert_eq!((letter.event_id.as_str(), letter.attempts), ("1", 3), "{bus:?}");
        assert_eq!((letter.subscription.as_str(), letter.reason.as_str()), ("ill", "no"));
        let history: Vec<_> = letter.history.iter().map(|t| (t.attempt, &*t.reason)).collect();
        assert_eq!(history, [(1, "not yet"), (2, "no"), (3, "no")], "{bus:?}");
        healed.store(true, std::sync::atomic::Ordering::SeqCst);
        let keeper = bus.keeper().unwrap();
        assert_eq!(keeper.redrive(std::slice::from_ref(&letter.id)).await.unwrap(), 1);
        bus.idle().await.unwrap();
        assert_eq!(calls.lock().unwrap()[4..], [("ill", 1)], "{bus:?}");
        healed.store(false, std::sync::atomic::Ordering::SeqCst);
        bus.publish(Event::new("a").id("2").payload(2)).await.unwrap();
        bus.idle().await.unwrap();
        let ids: Vec<_> = letters(&bus).await.into_iter().map(|l| l.id).collect();
        assert_eq!(keeper.purge(&ids).await.unwrap(), 1, "{bus:?}");
        assert!(letters(&bus).await.is_empty());
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn an_event_that_is_held_back_comes_when_it_is_due_and_idle_waits_for_it() {
    for (bus, _folder) in buses().await {
        let received = Recorder::new();
        bus.on("a").group("g").run(received.clone()).await.unwrap();
        let (delay, began) = (Duration::from_millis(200), Instant::now());
        bus.publish(Event::new("a").id("late").delay(delay).payload(())).await.unwrap();
        bus.publish(Event::new("a").id("soon").payload(())).await.unwrap();
        bus.idle().await.unwrap();
        let ids: Vec<_> = received.events().iter().map(|e| e.id().to_owned()).collect();
        assert_eq!(ids, ["soon", "late"], "{bus:?}");
        assert!(began.elapsed() >= delay, "{bus:?}");
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn closing_waits_for_what_runs_and_refuses_what_comes() {
    for (bus, _folder) in buses().await {
        let (begins, mut begun) = mpsc::unbounded_channel();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (waits, ended) = (Arc::clone(&gate), Recorder::new());
        let ends = ended.clone();
        let slow = async move |e: Event, bus: Bus| {
            begins.send(()).unwrap();
            drop(waits.acquire().await);
            bus.publish(Event::new("from within").payload(())).await.unwrap();
            railbus::SyncHandler::handle(&ends, &e)
        };
        bus.on("a").group("g").limit(1).run(slow).await.unwrap();
        for _ in 0..2 {
            bus.publish(Event::new("a").payload(())).await.unwrap();
        }
        begun.recv().await.unwrap();
        let (closer, draining) = (bus.clone(), bus.drain());
        let closing = tokio::spawn(async move { closer.close().await });
        let error = bus.publish(Event::new("a").payload(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        gate.add_permits(9);
        closing.await.unwrap().unwrap();
        draining.finish(Duration::from_secs(1)).await.unwrap();
        assert_eq!(ended.len(), 1, "{bus:?}: the other one was not begun");
        assert!(begun.try_recv().is_err());
    }
}
