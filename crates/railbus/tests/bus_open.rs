//! What a bus makes of a backend that hangs, or is odd.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use async_trait::async_trait;
use futures_util::FutureExt;
use railbus::{
    Bus, ErrorKind, Event, Result,
    backend::{Backend, Capability, Outgoing, Source, Subscribe},
    backends::memory::Memory,
    predicate::Interest,
};
use std::{
    future::{IntoFuture, pending},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

/// A memory that hangs at the first group that is opened, takes batches of no size, and never says
/// that all is settled.
#[derive(Debug)]
struct Odd {
    memory: Memory,
    capability: Capability,
    hung: AtomicBool,
    // What it was given to close.
    deadline: Arc<Mutex<Option<Duration>>>,
}

impl Odd {
    fn new() -> Self {
        let memory = Memory::default();
        let mut capability = memory.capability().clone();
        capability.batch_max = 0;
        Self { memory, capability, hung: AtomicBool::new(false), deadline: Arc::default() }
    }
}

#[async_trait]
impl Backend for Odd {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        self.memory.publish(batch).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        if !self.hung.swap(true, SeqCst) {
            pending::<()>().await;
        }
        self.memory.subscribe(request).await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        *self.deadline.lock().unwrap() = Some(deadline);
        self.memory.close(deadline).await
    }

    async fn settled(&self, _: &[(String, Interest)]) -> Result<()> {
        pending().await
    }

    async fn ping(&self) -> Result<()> {
        self.memory.ping().await
    }
}

#[railbus::test]
async fn an_opening_that_is_not_waited_for_any_more_leaves_no_subscription() {
    let on = |bus: &Bus| bus.on("a").group("g").named("n").run(|_: &Event| {});
    let bus = Bus::over(Arc::new(Odd::new()));
    assert!(on(&bus).into_future().now_or_never().is_none());
    assert!(!bus.wants("a"));
    on(&bus).await.unwrap();

    let bus = Bus::over(Arc::new(Odd::new()));
    let broadcast = bus.on("b").run(|_: &Event| {});
    assert!(bus.open_all(vec![broadcast, on(&bus)]).now_or_never().is_none());
    assert!(!bus.wants("a") && !bus.wants("b"));
    bus.open_all(vec![on(&bus)]).await.unwrap();
}

#[railbus::test]
async fn a_backend_that_says_it_takes_no_batch_is_given_one_event_at_a_time() {
    let bus = Bus::over(Arc::new(Odd::new()));
    let batch = [1, 2].map(|n| Event::new("a").payload(n).into());
    assert!(bus.publish_all(&batch).await.iter().all(Result::is_ok));
}

#[railbus::test]
async fn the_backend_is_given_what_the_groups_left_of_the_deadline() {
    let odd = Odd::new();
    odd.hung.store(true, SeqCst);
    let (given, bus) = (Arc::clone(&odd.deadline), Bus::over(Arc::new(odd)));
    let (begins, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let hang = async move |_: Event| {
        begins.send(()).unwrap();
        pending::<()>().await;
    };
    bus.on("a").group("g").run(hang).await.unwrap();
    bus.publish_all(&[Event::new("a").payload(0).into()]).await.remove(0).unwrap();
    begun.recv().await.unwrap();
    bus.close_within(Duration::from_millis(50)).await.unwrap();
    assert_eq!(given.lock().unwrap().unwrap(), Duration::ZERO);
}

#[railbus::test]
async fn waiting_until_all_is_through_ends_when_the_bus_is_closed() {
    let odd = Odd::new();
    odd.hung.store(true, SeqCst);
    let bus = Bus::over(Arc::new(odd));
    bus.on("a").group("g").run(|_: &Event| {}).await.unwrap();
    let waits = bus.clone();
    let waiting = tokio::spawn(async move { waits.idle().await });
    tokio::task::yield_now().await;
    bus.close().await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
}
