//! Events that go on to other buses, and payloads that go to many handlers: what the fan-out of the
//! dataknobs document's code does, where it is right.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{BoxError, Bus, ErrorKind, Event, Payload, Type, any};
use serde::{Deserialize, Serialize};
use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

type Topics = Arc<Mutex<Vec<String>>>;

/// Returns a bus, and the topics of what arrives on it.
async fn outlet() -> (Bus, Topics) {
    let (bus, topics) = (Bus::new(), Topics::default());
    let keep = Arc::clone(&topics);
    bus.on(any()).run(move |e: &Event| keep.lock().unwrap().push(e.topic().into())).await.unwrap();
    (bus, topics)
}

/// Passes what was updated on `from` on to `to`, its topic behind `prefix`.
async fn pass_on(from: &Bus, to: &Bus, prefix: &'static str) {
    let to = to.clone();
    let forward = async move |event: Event| {
        let topic = format!("{prefix}{}", event.topic());
        let copy = Event::new(event.event_type()).topic(topic);
        to.publish(copy.raw_payload(event.raw_payload().clone())).await?;
        Ok::<(), BoxError>(())
    };
    from.on(Type::UPDATED).run(forward).await.unwrap();
}

#[tokio::test]
async fn events_go_on_to_many_buses_under_a_prefix_or_as_they_are() {
    let bus = Bus::new();
    let ((a, in_a), (b, in_b), (c, in_c)) = (outlet().await, outlet().await, outlet().await);
    for (to, prefix) in [(&a, ""), (&b, "bots:"), (&c, "all:")] {
        pass_on(&bus, to, prefix).await;
    }
    assert!(
        bus.publish(Event::new("updated").topic("registry")).await.unwrap().failures.is_empty()
    );
    assert_eq!(*in_a.lock().unwrap(), ["registry"]);
    assert_eq!(*in_b.lock().unwrap(), ["bots:registry"]);
    assert_eq!(*in_c.lock().unwrap(), ["all:registry"]);
}

#[tokio::test]
async fn handlers_here_run_beside_those_that_pass_an_event_on() {
    let ((bus, here), (to, there)) = (outlet().await, outlet().await);
    pass_on(&bus, &to, "").await;
    assert_eq!(bus.publish(Event::new("updated")).await.unwrap().matched, 2);
    assert_eq!((here.lock().unwrap().len(), there.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn a_bus_that_refuses_an_event_stops_no_other() {
    let bus = Bus::new();
    let ((shut, in_shut), (open, in_open)) = (outlet().await, outlet().await);
    pass_on(&bus, &shut, "").await;
    pass_on(&bus, &open, "").await;
    shut.close().await.unwrap();
    let report = bus.publish(Event::new("updated")).await.unwrap();
    let failed: Vec<_> = report.failures.iter().map(|f| f.error.as_str()).collect();
    assert_eq!(failed, ["publish: the bus is closed"]);
    assert_eq!((in_shut.lock().unwrap().len(), in_open.lock().unwrap().len()), (0, 1));
}

#[tokio::test]
async fn dropping_a_publish_drops_the_handler_it_is_at_and_calls_no_other() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let (bus, dropped, called) = (Bus::new(), Arc::default(), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&dropped);
    let hang = async move |_: Event| {
        let _held = Dropped(Arc::clone(&told));
        pending::<()>().await;
    };
    bus.on("a").run(hang).await.unwrap();
    let count = Arc::clone(&called);
    let note = move |_: &Event| {
        count.fetch_add(1, Relaxed);
    };
    bus.on("a").run(note).await.unwrap();
    tokio::select! {
        biased;
        _ = bus.publish(Event::new("a")) => panic!("the handler ended"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!((dropped.load(Relaxed), called.load(Relaxed)), (1, 0));
}

/// A payload that says where it is, and counts its copies.
#[derive(Serialize, Deserialize)]
struct Big {
    bytes: Vec<u8>,
    #[serde(skip)]
    copies: Arc<AtomicUsize>,
}

impl Clone for Big {
    fn clone(&self) -> Self {
        self.copies.fetch_add(1, Relaxed);
        Self { bytes: self.bytes.clone(), copies: Arc::clone(&self.copies) }
    }
}

#[tokio::test]
async fn a_payload_is_shared_by_all_handlers_without_a_copy() {
    let (bus, places) = (Bus::new(), Arc::new(Mutex::new(Vec::new())));
    for _ in 0..3 {
        let keep = Arc::clone(&places);
        let note = move |big: Payload<Big>| keep.lock().unwrap().push(big.bytes.as_ptr() as usize);
        bus.on("big").run(note).await.unwrap();
    }
    let copies = Arc::new(AtomicUsize::new(0));
    let big = Big { bytes: vec![7; 1 << 20], copies: Arc::clone(&copies) };
    let at = big.bytes.as_ptr() as usize;
    bus.publish(Event::new("big").payload(big)).await.unwrap();
    assert_eq!(*places.lock().unwrap(), [at; 3]);
    assert_eq!(copies.load(Relaxed), 0);
}

#[tokio::test]
async fn emit_refuses_an_async_handler_before_anything_ran() {
    let (bus, topics) = outlet().await;
    bus.on("a").named("slow").run(async |_: Event| {}).await.unwrap();
    let refused = bus.emit(Event::new("a")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().starts_with("emit: subscription slow is async"), "{refused}");
    assert_eq!(refused.advice(), Some("await publish(..) instead"));
    assert!(topics.lock().unwrap().is_empty());
    assert_eq!(bus.counters().published.get(), 0);
    bus.emit(Event::new("b")).unwrap();
    assert_eq!(*topics.lock().unwrap(), ["b"]);
}
