//! A backend that can do less than memory.

use async_trait::async_trait;
use railbus::{
    Bus, Result,
    backend::{
        Backend, Capability, Keeper, Leased, Outgoing, Release, Settle, Source, Subscribe, Verdict,
    },
    backends::memory::Memory,
    predicate::Interest,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// A memory that can do less: what it does not claim it refuses, and what it is told it keeps.
#[derive(Debug)]
pub(crate) struct Poor {
    memory: Memory,
    pub(crate) capability: Capability,
    told: Arc<Told>,
    /// Whether its members get all there is.
    pub(crate) all: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Told {
    verdicts: Mutex<Vec<Verdict>>,
    refused: AtomicUsize,
}

struct PoorSource {
    inner: Arc<dyn Source>,
    capability: Capability,
    told: Arc<Told>,
}

impl Poor {
    pub(crate) fn new(memory: &Memory, change: impl FnOnce(&mut Capability)) -> Self {
        let mut capability = memory.capability().clone();
        change(&mut capability);
        Self { memory: memory.connect(), capability, told: Arc::default(), all: false }
    }

    pub(crate) fn bus(self) -> (Bus, Arc<Told>) {
        let told = Arc::clone(&self.told);
        (Bus::over(Arc::new(self)), told)
    }
}

impl Told {
    /// Returns what it was told and did, and that it had to refuse nothing.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        assert_eq!(self.refused.load(SeqCst), 0, "it was asked for what it can't do");
        self.verdicts.lock().unwrap().clone()
    }
}

#[async_trait]
impl Backend for Poor {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        self.memory.publish(batch).await
    }

    async fn subscribe(&self, mut request: Subscribe) -> Result<Arc<dyn Source>> {
        if self.all {
            request.interest = Interest::all();
        }
        let inner = self.memory.subscribe(request).await?;
        let (capability, told) = (self.capability.clone(), Arc::clone(&self.told));
        Ok(Arc::new(PoorSource { inner, capability, told }))
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        self.memory.settled(groups).await
    }

    async fn ping(&self) -> Result<()> {
        self.memory.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.memory.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.memory.keeper()
    }
}

#[async_trait]
impl Source for PoorSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut leased = self.inner.fetch(max).await?;
        if !self.capability.counts_attempts {
            leased.iter_mut().for_each(|one| one.attempt = 1);
        }
        Ok(leased)
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let (can, mut results) = (&self.capability, Vec::new());
        for settle in batch {
            let most = can.delay_max.unwrap_or_default();
            let lacks = match &settle.verdict {
                Verdict::Extend { .. } => !can.extends,
                Verdict::Nack { delay } | Verdict::Release { delay } => *delay > most,
                _ => false,
            };
            if lacks {
                self.told.refused.fetch_add(1, SeqCst);
                results.push(Err(can.refuse("settle", "can't", &[])));
                continue;
            }
            self.told.verdicts.lock().unwrap().push(settle.verdict.clone());
            let mut settle = settle.clone();
            if let (Verdict::Release { delay }, Release::CountsAsAttempt) =
                (&settle.verdict, can.release)
            {
                settle.verdict = Verdict::Nack { delay: *delay };
            }
            results.push(self.inner.settle(&[settle]).await.remove(0));
        }
        results
    }

    fn stop(&self) {
        self.inner.stop();
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
