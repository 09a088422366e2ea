//! A backend that is slow, fails or misses events when it is told to.
#![allow(dead_code)]

use railbus::{
    Error, ErrorKind, Event, Result,
    backend::{
        Backend, Broadcast, Capability, Keeper, Leased, Outgoing, Receipt, Settle, Source,
        Subscribe,
    },
    backends::memory::{self, Memory},
    codec,
    predicate::Filter,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

/// What a faulty backend is told, and what it saw.
#[derive(Debug)]
pub(crate) struct Faults {
    /// How many publishes are let through; many unless it is said.
    pub(crate) room: Semaphore,
    /// How many of the next publishes fail for now, and of the next fetches.
    pub(crate) publishes: AtomicU32,
    pub(crate) fetches: AtomicU32,
    /// How many of the next subscriptions fail for now.
    pub(crate) subscribes: AtomicU32,
    /// How many of the next settlements fail for now, and how many are let through; many unless it
    /// is said.
    pub(crate) settlements: AtomicU32,
    pub(crate) settling: Semaphore,
    /// How many events were on their way at once, now and at most.
    pub(crate) now: AtomicUsize,
    pub(crate) most: AtomicUsize,
    /// How many events each fetch asked for.
    pub(crate) asked: Mutex<Vec<usize>>,
    /// The batches that were published, by their ids.
    pub(crate) batches: Mutex<Vec<Vec<String>>>,
    ears: Mutex<Vec<Weak<Ear>>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            room: Semaphore::new(Semaphore::MAX_PERMITS),
            publishes: AtomicU32::new(0),
            fetches: AtomicU32::new(0),
            subscribes: AtomicU32::new(0),
            settlements: AtomicU32::new(0),
            settling: Semaphore::new(Semaphore::MAX_PERMITS),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            asked: Mutex::default(),
            batches: Mutex::default(),
            ears: Mutex::default(),
        }
    }
}

impl Faults {
    /// Cuts off all who listen, and lets them listen again: what is published in between is missed.
    pub(crate) fn cut(&self) {
        for ear in self.ears() {
            ear.cut.store(true, SeqCst);
        }
    }

    pub(crate) fn mend(&self) {
        for ear in self.ears() {
            ear.cut.store(false, SeqCst);
            ear.gap.notify_one();
        }
    }

    /// Refuses all who listen, for good.
    pub(crate) fn deny(&self) {
        for ear in self.ears() {
            ear.denied.store(true, SeqCst);
            ear.come.notify_one();
        }
    }

    /// Returns how many broadcasts were fetched.
    pub(crate) fn handed_out(&self) -> u64 {
        self.ears().iter().map(|ear| ear.handed_out.load(SeqCst)).sum()
    }

    fn ears(&self) -> Vec<Arc<Ear>> {
        self.ears.lock().unwrap().iter().filter_map(Weak::upgrade).collect()
    }
}

fn fails(left: &AtomicU32) -> Result<()> {
    match left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
        Ok(_) => Err(Error::new(ErrorKind::Unavailable, "faulty", "not now")),
        Err(_) => Ok(()),
    }
}

/// Memory with faults. Broadcasts are live: they go by way of sources, as on a server.
#[derive(Debug)]
pub(crate) struct Faulty {
    memory: Memory,
    pub(crate) faults: Arc<Faults>,
}

const CAPABILITY: Capability = {
    let mut capability = memory::CAPABILITY;
    capability.broadcast = Broadcast::Live;
    capability.batch_max = 100;
    capability
};

impl Faulty {
    pub(crate) fn new() -> (Arc<Self>, Arc<Faults>) {
        Self::with(Faults::default())
    }

    /// Lets no publish through until room is added.
    pub(crate) fn held() -> (Arc<Self>, Arc<Faults>) {
        Self::with(Faults { room: Semaphore::new(0), ..Faults::default() })
    }

    fn with(faults: Faults) -> (Arc<Self>, Arc<Faults>) {
        let faults = Arc::new(faults);
        (Arc::new(Self { memory: Memory::default(), faults: Arc::clone(&faults) }), faults)
    }

    /// Opens another connection to the same place, with the same faults.
    pub(crate) fn connect(&self) -> Arc<Self> {
        Arc::new(Self { memory: self.memory.connect(), faults: Arc::clone(&self.faults) })
    }
}

#[async_trait::async_trait]
impl Backend for Faulty {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let faults = &self.faults;
        let ids = batch.iter().map(|outgoing| outgoing.event.id().to_owned()).collect();
        faults.batches.lock().unwrap().push(ids);
        let now = faults.now.fetch_add(batch.len(), SeqCst) + batch.len();
        faults.most.fetch_max(now, SeqCst);
        // Whoever is dropped here was never published.
        let _leaves = Leaves(&faults.now, batch.len());
        faults.room.acquire().await.unwrap().forget();
        let mut results = Vec::new();
        for outgoing in batch {
            let failed = fails(&faults.publishes).err();
            results.push(match failed {
                Some(error) => Err(error),
                None => self.memory.publish(std::slice::from_ref(outgoing)).await.remove(0),
            });
            for ear in faults.ears().iter().filter(|_| results.last().is_some_and(Result::is_ok)) {
                ear.hear(&outgoing.event);
            }
        }
        results
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        fails(&self.faults.subscribes)?;
        if request.group.is_none() {
            let ear = Arc::new(Ear::new(&request));
            self.faults.ears.lock().unwrap().push(Arc::downgrade(&ear));
            return Ok(ear);
        }
        let source = self.memory.subscribe(request).await?;
        Ok(Arc::new(Grouped { source, faults: Arc::clone(&self.faults) }))
    }

    async fn ping(&self) -> Result<()> {
        self.memory.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        for ear in self.faults.ears() {
            ear.stop();
        }
        self.memory.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.memory.keeper()
    }
}

struct Grouped {
    source: Arc<dyn Source>,
    faults: Arc<Faults>,
}

#[async_trait::async_trait]
impl Source for Grouped {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        self.faults.asked.lock().unwrap().push(max);
        fails(&self.faults.fetches)?;
        self.source.fetch(max).await
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        self.faults.settling.acquire().await.unwrap().forget();
        if let Err(error) = fails(&self.faults.settlements) {
            return vec![Err(error); batch.len()];
        }
        self.source.settle(batch).await
    }

    fn stop(&self) {
        self.source.stop();
    }

    async fn close(&self) -> Result<()> {
        self.source.close().await
    }
}

struct Leaves<'a>(&'a AtomicUsize, usize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, SeqCst);
    }
}

/// A source of broadcasts that can be cut off.
#[derive(Debug)]
struct Ear {
    wants: Filter,
    heard: Mutex<VecDeque<Event>>,
    come: Notify,
    cut: AtomicBool,
    denied: AtomicBool,
    stopped: AtomicBool,
    gap: Notify,
    handed_out: AtomicU64,
}

impl Ear {
    fn new(request: &Subscribe) -> Self {
        Self {
            wants: request.interest.compile(),
            heard: Mutex::default(),
            come: Notify::new(),
            cut: AtomicBool::new(false),
            denied: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            gap: Notify::new(),
            handed_out: AtomicU64::new(0),
        }
    }

    fn hear(&self, event: &Event) {
        let deaf = self.cut.load(SeqCst) || self.denied.load(SeqCst);
        if !deaf && self.wants.matches(event.event_type(), event.topic()) {
            // As a server hands it on.
            let bytes = codec::encode(event).unwrap();
            self.heard.lock().unwrap().push_back(codec::decode(&bytes.into()).unwrap());
            self.come.notify_one();
        }
    }
}

#[async_trait::async_trait]
impl Source for Ear {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        loop {
            if self.stopped.load(SeqCst) {
                return Ok(Vec::new());
            }
            if self.denied.load(SeqCst) {
                return Err(Error::new(ErrorKind::Denied, "faulty", "not any more"));
            }
            let heard: Vec<_> = {
                let mut heard = self.heard.lock().unwrap();
                let count = heard.len().min(max);
                heard.drain(..count).collect()
            };
            if heard.is_empty() {
                self.come.notified().await;
                continue;
            }
            self.handed_out.fetch_add(heard.len() as u64, SeqCst);
            let receipt = Receipt { place: 0, fence: 0, token: None };
            let lease = |event| Leased {
                receipt: receipt.clone(),
                event: Ok(event),
                attempt: 1,
                lost: false,
                finished: Vec::new(),
                only: None,
            };
            return Ok(heard.into_iter().map(lease).collect());
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let none_left = self.heard.lock().unwrap().is_empty() && !self.denied.load(SeqCst);
        Ok(none_left.then(|| self.handed_out.load(SeqCst)))
    }

    async fn gap(&self) {
        self.gap.notified().await;
    }

    fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.come.notify_one();
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        Ok(())
    }
}
