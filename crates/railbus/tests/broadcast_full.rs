//! A lane that is full, where events are kept: what it holds up, and that it is told once. Alone in
//! its process, for the lines of the log.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, testing::Recorder};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer, prelude::*};

/// Keeps what lines say, with their topic.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if ["message", "topic"].contains(&field.name()) {
            self.0 = format!("{}{}={value:?} ", self.0, field.name());
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, line: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        let mut said = Said(String::new());
        line.record(&mut said);
        self.0.lock().unwrap().push(said.0);
    }
}

impl Lines {
    fn held_up(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines
            .iter()
            .filter(|line| line.contains("the broadcasts of all topics wait"))
            .cloned()
            .collect()
    }
}

async fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            // sleep: the file is read by another thread.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.unwrap_or_else(|_| panic!("{what}"));
}

#[railbus::test]
async fn a_full_lane_of_kept_events_holds_up_all_topics_says_so_once_and_loses_nothing() {
    let lines = Lines::default();
    tracing_subscriber::registry().with(lines.clone()).init();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let bus = Bus::open(&url).await.unwrap();
    let (slow, quick, go) = (Recorder::new(), Recorder::new(), Arc::new(Semaphore::new(0)));
    let (keep, wait) = (slow.clone(), Arc::clone(&go));
    let handle = async move |event: Event| {
        wait.acquire().await.unwrap().forget();
        railbus::SyncHandler::handle(&keep, &event)
    };
    bus.on("slow").run(handle).await.unwrap();
    bus.on("quick").run(quick.clone()).await.unwrap();
    let (other, end) = (Recorder::new(), Arc::new(Semaphore::new(0)));
    let (keep, wait) = (other.clone(), Arc::clone(&end));
    let handle = async move |event: Event| {
        wait.acquire().await.unwrap().forget();
        railbus::SyncHandler::handle(&keep, &event)
    };
    bus.on("other").run(handle).await.unwrap();
    for times in 1..=2 {
        let other_topic = |n| Event::new("other").topic(format!("other-{n}")).payload(n).into();
        let mut batch: Vec<_> = (0..5).map(other_topic).collect();
        batch.extend((0..1100).map(|n| Event::new("slow").payload(n).into()));
        batch.push(Event::new("quick").payload(0).into());
        for result in bus.publish_all(&batch).await {
            result.unwrap();
        }
        within("it is not told", || lines.held_up().len() == times).await;
        assert!(lines.held_up()[times - 1].contains(r#"topic="slow""#), "{:?}", lines.held_up());
        assert_eq!(quick.len(), times - 1, "it waits as well");
        // Of other topics nothing is left that waits: that does not end it.
        for ended in 1..=5 {
            end.add_permits(1);
            within("it is not handled", || other.len() == 5 * (times - 1) + ended).await;
            // sleep: the listener is woken, and finds no room.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Room for a few, and full again: it is the same hold-up.
        for few in 1..=5 {
            go.add_permits(10);
            within("they are not handled", || slow.len() == 1100 * (times - 1) + 10 * few).await;
            // sleep: the listener fills the room that came about.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        go.add_permits(1050);
        bus.idle().await.unwrap();
        assert_eq!((slow.len(), quick.len()), (1100 * times, times));
        assert_eq!(lines.held_up().len(), times);
    }
    bus.close().await.unwrap();
}
