//! Deliveries that share a batch: none of them holds up, doubles or loses what is beside it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use async_trait::async_trait;
use railbus::{
    Bus, ErrorKind, Event, Result, Retry,
    backend::{
        Backend, Capability, GroupInfo, Keeper, Leased, LetterFilter, Outgoing, Settle, Source,
        Subscribe,
    },
    backends::memory::Memory,
    delivery::Then,
    predicate::Interest,
    topic,
};
use std::{
    collections::{BTreeMap, HashSet},
    error::Error as StdError,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
        mpsc as blocking,
    },
    time::Duration,
};
use tokio::sync::{RwLock, mpsc};

/// Deliveries before what a test is about: none, so that each gets a task of its own, or as many
/// as prove that the handler is quick, so that they share a batch.
const EITHER_WAY: [usize; 2] = [0, 40];

/// Awaits what must come; a test that waits in vain fails instead of hanging.
async fn within<T>(awaited: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), awaited).await.expect("it never came")
}

/// Handles events of no account one by one, which proves that the handler is quick.
async fn prove(bus: &Bus, events: usize) {
    for _ in 0..events {
        bus.publish(Event::new("a").topic("prove").payload(0)).await.unwrap();
        within(bus.idle()).await.unwrap();
    }
}

fn quick(numbers: impl IntoIterator<Item = usize>) -> Vec<Outgoing> {
    let event = |n: usize| Event::new("a").topic("quick").id(n.to_string()).payload(n).into();
    numbers.into_iter().map(event).collect()
}

fn other(topic: &str) -> Outgoing {
    Event::new("a").topic(topic).id(topic).payload(0).into()
}

async fn publish_all(bus: &Bus, batch: &[Outgoing]) {
    for published in bus.publish_all(batch).await {
        published.unwrap();
    }
}

async fn group(memory: &Memory) -> GroupInfo {
    memory.keeper().unwrap().groups().await.unwrap().remove(0)
}

/// What a handler took up: the ids, in order.
struct Taken(mpsc::UnboundedReceiver<String>);

impl Taken {
    async fn next(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(within(self.0.recv()).await.expect("nobody handles any more"));
        }
        ids
    }

    /// Returns what came since.
    fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.0.try_recv().ok()).collect()
    }
}

/// Returns a handler that tells what it takes up and blocks its thread at the topic "block" until
/// what is returned last is dropped, as it is too if the test fails.
fn handler() -> (impl Fn(&Event) + Send + Sync + 'static, Taken, blocking::Sender<()>) {
    let (takes, taken) = mpsc::unbounded_channel();
    let (open, shut) = blocking::channel();
    let shut = Mutex::new(shut);
    let handler = move |event: &Event| {
        if event.topic() != "prove" {
            let _ = takes.send(event.id().to_owned());
        }
        if event.topic() == "block" {
            let _ = shut.lock().unwrap().recv();
        }
    };
    (handler, Taken(taken), open)
}

/// A memory whose source is odd.
#[derive(Debug)]
struct Odd(Memory, How);

#[derive(Clone, Debug)]
enum How {
    SettlesOnceReadable(Arc<RwLock<()>>),
    PanicsAtFetch,
    GivesMore(usize),
}

struct OddSource(Arc<dyn Source>, How);

#[async_trait]
impl Backend for Odd {
    fn capability(&self) -> &Capability {
        self.0.capability()
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        self.0.publish(batch).await
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(OddSource(self.0.subscribe(request).await?, self.1.clone())))
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        self.0.settled(groups).await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.0.keeper()
    }
}

#[async_trait]
impl Source for OddSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        match self.1 {
            How::PanicsAtFetch => panic!("a source that panics"),
            How::GivesMore(more) => self.0.fetch(max + more).await,
            How::SettlesOnceReadable(_) => self.0.fetch(max).await,
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        if let How::SettlesOnceReadable(gate) = &self.1 {
            drop(gate.read().await);
        }
        self.0.settle(batch).await
    }

    fn stop(&self) {
        self.0.stop();
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "an error that panics when it is dropped");
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bomb")
    }
}

impl StdError for Bomb {}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_blocks_holds_up_neither_what_shares_its_batch_nor_what_comes_later() {
    let bus = Bus::new();
    let (handler, mut taken, open) = handler();
    bus.on("a").group("g").run(handler).await.unwrap();
    prove(&bus, 40).await;
    let mut batch = vec![other("block")];
    batch.extend(quick(0..50));
    publish_all(&bus, &batch).await;
    let all: HashSet<_> = taken.next(51).await.into_iter().collect();
    assert_eq!(all.len(), 51, "each came, and none twice");
    publish_all(&bus, &quick(50..100)).await;
    taken.next(50).await;
    drop(open);
    within(bus.close()).await.unwrap();
    assert_eq!(taken.rest(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_handled_is_settled_while_one_beside_it_blocks() {
    let memory = Memory::default();
    let bus = Bus::over(Arc::new(memory.connect()));
    let (handler, mut taken, open) = handler();
    bus.on("a").group("g").run(handler).await.unwrap();
    prove(&bus, 40).await;
    let mut batch = quick(0..100);
    batch.insert(50, other("block"));
    publish_all(&bus, &batch).await;
    taken.next(101).await;
    let quick = [("g".to_owned(), topic("quick").interest())];
    within(memory.settled(&quick)).await.unwrap();
    assert_eq!(group(&memory).await.lag, 1, "the one that blocks");
    drop(open);
    within(bus.close()).await.unwrap();
    assert_eq!(group(&memory).await.lag, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closing_gives_back_the_one_that_blocks_and_nothing_that_was_handled_beside_it() {
    let memory = Memory::default();
    let one = Bus::over(Arc::new(memory.connect()));
    let (blocks, mut taken, open) = handler();
    one.on("a").group("g").run(blocks).await.unwrap();
    prove(&one, 40).await;
    let mut batch = quick(0..30);
    batch.push(other("block"));
    publish_all(&one, &batch).await;
    taken.next(31).await;
    within(one.close_within(Duration::ZERO)).await.unwrap();
    let two = Bus::over(Arc::new(memory.connect()));
    let (handler, mut again, two_open) = handler();
    drop(two_open);
    two.on("a").group("g").run(handler).await.unwrap();
    within(two.idle()).await.unwrap();
    assert_eq!(again.rest(), ["block"], "only what was not through comes again");
    drop(open);
    within(two.close()).await.unwrap();
    assert_eq!(taken.rest(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_settled_is_waited_for_until_the_deadline_and_settled_even_after_it() {
    for (deliveries, deadline) in [(0, 0), (0, 60), (40, 0), (40, 60)] {
        let (memory, gate) = (Memory::default(), Arc::<RwLock<()>>::default());
        let odd = Odd(memory.connect(), How::SettlesOnceReadable(Arc::clone(&gate)));
        let bus = Bus::over(Arc::new(odd));
        let (handler, mut taken, _open) = handler();
        bus.on("a").group("g").run(handler).await.unwrap();
        prove(&bus, deliveries).await;
        let held = gate.write().await;
        publish_all(&bus, &quick(0..3)).await;
        taken.next(3).await;
        // The backend stays open.
        let draining = tokio::spawn(bus.drain().settle(Duration::from_secs(deadline)));
        // sleep: on a paused clock, so that all that can go on has gone on.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let case = format!("{deliveries} deliveries before, {deadline} s to close");
        assert_eq!(draining.is_finished(), deadline == 0, "{case}");
        assert_eq!(group(&memory).await.lag, 3, "{case}");
        drop(held);
        let all = [("g".to_owned(), Interest::all())];
        within(memory.settled(&all)).await.unwrap();
        let settled = within(draining).await.unwrap();
        within(settled.finish(Duration::from_secs(60))).await.unwrap();
        assert_eq!(taken.rest(), [""; 0], "nothing came again: {case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_begun_when_the_group_drains_is_given_back() {
    for deliveries in EITHER_WAY {
        let memory = Memory::default();
        let bus = Bus::over(Arc::new(memory.connect()));
        let (handler, mut taken, open) = handler();
        bus.on("a").group("g").run(handler).await.unwrap();
        prove(&bus, deliveries).await;
        publish_all(&bus, &vec![other("block"); 100]).await;
        let first = taken.next(1).await.len();
        let draining = bus.drain();
        drop(open);
        let settled = within(draining.settle(Duration::from_secs(60))).await;
        let begun = first + taken.rest().len();
        assert!(begun <= 2, "{begun} began, on 2 threads that blocked, after {deliveries}");
        assert_eq!(group(&memory).await.lag, 100 - begun as u64);
        within(settled.finish(Duration::from_secs(60))).await.unwrap();
    }
}

// On one thread, where what follows the failure can't have begun before it.
#[tokio::test]
async fn nothing_more_begins_once_a_policy_said_stop() {
    for deliveries in EITHER_WAY {
        let memory = Memory::default();
        let bus = Bus::over(Arc::new(memory.connect()));
        let (begins, handled) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let (begun, count) = (Arc::clone(&begins), Arc::clone(&handled));
        let handler = move |event: &Event| match event.topic() {
            "bad" => Err(format!("the disk is full, {} times", begins.fetch_add(1, SeqCst) + 1)),
            "prove" => Ok(()),
            _ => {
                count.fetch_add(1, SeqCst);
                Ok(())
            }
        };
        let on = bus.on("a").group("g").retry(Retry::attempts(1)).then(Then::Stop);
        on.run(handler).await.unwrap();
        prove(&bus, deliveries).await;
        let mut batch = vec![other("bad")];
        batch.extend(quick(0..2000));
        publish_all(&bus, &batch).await;
        let error = within(bus.failed()).await.to_string();
        assert!(error.contains("the disk is full, 1 times"), "{error}");
        within(bus.close()).await.unwrap();
        let began = (begun.load(SeqCst), handled.load(SeqCst));
        assert_eq!(began, (1, 0), "the bad one and others, after {deliveries}");
        assert_eq!(group(&memory).await.lag, 2001, "nothing is lost");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_dropped_brings_nothing_again_but_its_own_event() {
    for deliveries in EITHER_WAY {
        let memory = Memory::default();
        let bus = Bus::over(Arc::new(memory.connect()));
        let counts = Arc::<Mutex<BTreeMap<String, u32>>>::default();
        let calls = Arc::clone(&counts);
        let handler = move |event: &Event| {
            *calls.lock().unwrap().entry(event.id().to_owned()).or_default() += 1;
            if event.topic() == "bad" { Err(Bomb) } else { Ok(()) }
        };
        let on = bus.on("a").group("g").retry(Retry::attempts(2)).lease(Duration::from_secs(1));
        on.run(handler).await.unwrap();
        prove(&bus, deliveries).await;
        counts.lock().unwrap().clear();
        let mut batch = quick(0..50);
        batch.insert(40, other("bad"));
        publish_all(&bus, &batch).await;
        // Each try ends with its lease; then it is given up.
        within(bus.idle()).await.unwrap();
        let mut calls = counts.lock().unwrap().clone();
        assert_eq!(calls.remove("bad"), Some(2), "after {deliveries}");
        assert!(calls.len() == 50 && calls.values().all(|count| *count == 1), "{calls:?}");
        let letters = memory.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
        assert_eq!(letters.len(), 1);
        within(bus.close()).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_panics_ends_the_group_and_the_bus_tells() {
    let bus = Bus::over(Arc::new(Odd(Memory::default(), How::PanicsAtFetch)));
    bus.on("a").group("g").run(|_: &Event| {}).await.unwrap();
    let error = within(bus.failed()).await;
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("fetching panicked"), "{error}");
}

#[tokio::test]
async fn a_source_that_gives_more_than_it_was_asked_for_gets_it_back_and_the_limit_is_kept() {
    let bus = Bus::over(Arc::new(Odd(Memory::default(), How::GivesMore(3))));
    let (now, most) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let handler = async move |_: Event| {
        peak.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        running.fetch_sub(1, SeqCst);
    };
    bus.on("a").group("g").limit(2).run(handler).await.unwrap();
    publish_all(&bus, &quick(0..10)).await;
    within(bus.idle()).await.unwrap();
    assert_eq!(most.load(SeqCst), 2);
    assert_eq!(bus.counters().succeeded.get(), 10);
    within(bus.close()).await.unwrap();
}

#[tokio::test]
async fn a_limit_beyond_all_that_could_ever_run_is_no_limit() {
    let bus = Bus::new();
    let (handler, mut taken, _open) = handler();
    bus.on("a").group("g").limit(usize::MAX).run(handler).await.unwrap();
    publish_all(&bus, &quick(0..10)).await;
    taken.next(10).await;
    within(bus.close()).await.unwrap();
}
