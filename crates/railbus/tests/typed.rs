//! Typed payloads: as they are in process, encoded once where they leave, and of the wrong type.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    BoxError, Bus, Context, Event, Payload, Retry, State,
    backend::LetterFilter,
    delivery::Delivery,
    handler::{Call, FromDelivery},
    has_key,
    testing::Recorder,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

thread_local! {
    /// How often a `Counted` was written and read on this thread.
    static TIMES: (AtomicUsize, AtomicUsize) = const { (AtomicUsize::new(0), AtomicUsize::new(0)) };
}

/// Counts how often it is written and read.
#[derive(Clone, Debug, PartialEq)]
struct Counted(u32);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        TIMES.with(|times| times.0.fetch_add(1, SeqCst));
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        TIMES.with(|times| times.1.fetch_add(1, SeqCst));
        u32::deserialize(from).map(Self)
    }
}

/// Returns how often a `Counted` was written and read since the last time.
fn times() -> (usize, usize) {
    TIMES.with(|times| (times.0.swap(0, SeqCst), times.1.swap(0, SeqCst)))
}

fn address(payload: &Counted) -> usize {
    std::ptr::from_ref(payload).addr()
}

#[railbus::test]
async fn in_process_a_payload_is_neither_written_nor_read_nor_copied() {
    let bus = Bus::open("memory:").await.unwrap();
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let note = || {
        let seen = Arc::clone(&seen);
        move |payload: Payload<Counted>| seen.lock().unwrap().push(address(&payload))
    };
    let noted = note();
    bus.on("a").run(note()).await.unwrap();
    bus.on("a").run(async move |payload: Payload<Counted>| noted(payload)).await.unwrap();
    bus.on("a").group("g").run(note()).await.unwrap();
    let event = Event::new("a").payload(Counted(7));
    bus.publish(&event).await.unwrap();
    bus.publish_all(&[event.clone().into()]).await.remove(0).unwrap();
    bus.idle().await.unwrap();
    assert_eq!(times(), (0, 0));
    let own = address(event.raw_payload().given().unwrap());
    assert_eq!(*seen.lock().unwrap(), [own; 6]);
    assert_eq!(event.payload::<Counted>().unwrap(), Counted(7));
    // One look inside encodes it, once for all.
    for _ in 0..3 {
        assert!(!has_key("x").matches(&event));
    }
    assert_eq!(times(), (1, 0));
    bus.close().await.unwrap();
}

#[railbus::test]
async fn where_it_is_encoded_it_is_written_once_and_every_handler_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("events.db").display());
    for url in ["memory:?wire=always", &*file] {
        let bus = Bus::open(url).await.unwrap();
        let handler = |_: Payload<Counted>| {};
        bus.on("a").run(handler).await.unwrap();
        bus.on("a").run(handler).await.unwrap();
        bus.on("a").group("g").run(handler).await.unwrap();
        let event = Event::new("a").payload(Counted(7));
        bus.publish(&event).await.unwrap();
        bus.publish_all(&[event.clone().into()]).await.remove(0).unwrap();
        bus.idle().await.unwrap();
        assert_eq!(times(), (1, 6), "{url}");
        bus.close().await.unwrap();
    }
}

#[railbus::test]
async fn a_payload_of_the_wrong_type_fails_with_type_and_id_by_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("events.db").display());
    for url in ["memory:", "memory:?wire=always", &*file] {
        let bus = Bus::open(url).await.unwrap();
        let received = Recorder::new();
        let wrong = |_: Payload<Vec<String>>| {};
        let retry = Retry::attempts(3).backoff_factor(Duration::from_millis(1));
        bus.on("a").named("wrong").run(wrong).await.unwrap();
        bus.on("a").group("g").named("late").retry(retry).run(wrong).await.unwrap();
        bus.on("a").run(received.clone()).await.unwrap();
        let event = Event::new("a").id("e-1").payload(Counted(7));
        let report = bus.publish(&event).await.unwrap();
        bus.idle().await.unwrap();
        let keeper = bus.keeper().unwrap();
        let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
        let failures = report.failures.iter().map(|failure| &failure.error);
        for reason in failures.chain(letters.iter().map(|letter| &letter.reason)) {
            for part in
                ["payload: not a", "Vec<alloc::string::String>", "event: e-1", "invalid type"]
            {
                assert!(reason.contains(part), "{url}: {part} is not in {reason}");
            }
        }
        assert_eq!(report.failures.len(), usize::from(url.starts_with("memory:")), "{url}");
        // No further try would make it another type.
        assert_eq!((letters.len(), letters[0].attempts), (1, 1), "{url}: {letters:?}");
        assert_eq!(letters[0].subscription, "late");
        assert_eq!(received.len(), 1, "{url}");
        bus.close().await.unwrap();
    }
}

/// Taken from the metadata.
struct Tenant(String);

impl FromDelivery for Tenant {
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        let tenant = call.event().metadata().get("tenant").cloned();
        Ok(Self(tenant.ok_or("the event names no tenant")?))
    }
}

#[railbus::test]
async fn every_extractor_works_on_every_bus_and_state_is_asked_for_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("events.db").display());
    for url in ["memory:", "memory:?wire=always", &*file] {
        let bus = Bus::open(url).await.unwrap();
        let without = bus.on("a").run(|_: State<u32>| {}).await.unwrap_err();
        assert!(without.to_string().contains("u32"), "{without}");
        let (bus, received) = (bus.state(7_u32), Recorder::new());
        for group in [None, Some("g")] {
            let on = |of: &str| match group {
                Some(group) => bus.on(of).group(group),
                None => bus.on(of),
            };
            let one = async |e: Event, p: Payload<Counted>, c: Context, s: State<u32>| {
                assert_eq!((e.id(), p.0, *s), (c.id(), 7, 7));
            };
            let other = |d: Delivery, _: Bus, t: Tenant| {
                assert_eq!((d.attempt(), d.event().event_type(), &*t.0), (1, "a", "north"));
            };
            on("a").run(one).await.unwrap();
            on("a").run(other).await.unwrap();
            on("a").run(received.clone()).await.unwrap();
        }
        let event = Event::new("a").metadata("tenant", "north").payload(Counted(7));
        bus.publish(event).await.unwrap();
        bus.idle().await.unwrap();
        let (failed, succeeded) = (bus.counters().failed.get(), bus.counters().succeeded.get());
        assert_eq!((failed, bus.counters().retried.get(), succeeded), (0, 0, 6), "{url}");
        bus.close().await.unwrap();
    }
}
