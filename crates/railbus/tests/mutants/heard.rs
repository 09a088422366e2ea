//! A listener to broadcasts, which does one thing wrong.

use super::{mutant::Mutant, sent::size};
use async_trait::async_trait;
use railbus::{
    backend::{Leased, Settle, Source},
    error::Result,
};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// What still fits into a notification of PostgreSQL.
const NOTIFIED_MAX: usize = 7000;

pub(super) struct Heard {
    inner: Arc<dyn Source>,
    mutant: Mutant,
    deaf: AtomicBool,
    held: Mutex<Option<Leased>>,
}

impl Heard {
    pub(super) fn new(inner: Arc<dyn Source>, mutant: Mutant) -> Self {
        Self { inner, mutant, deaf: AtomicBool::new(false), held: Mutex::default() }
    }

    /// Fetches, and notices when the connection is cut meanwhile.
    async fn next(&self, max: usize) -> Result<Vec<Leased>> {
        if self.mutant != Mutant::DeafAfterCut {
            return self.inner.fetch(max).await;
        }
        let mut fetch = pin!(self.inner.fetch(max));
        tokio::select! {
            biased;
            () = self.inner.gap() => {
                self.deaf.store(true, SeqCst);
                fetch.await
            }
            fetched = &mut fetch => fetched,
        }
    }

    fn given(&self, fetched: Vec<Leased>) -> Vec<Leased> {
        match self.mutant {
            Mutant::DeafAfterCut if self.deaf.load(SeqCst) => Vec::new(),
            Mutant::HeardTwice => fetched.into_iter().flat_map(|l| [again(&l), l]).collect(),
            Mutant::LostSpill => {
                let fits = |l: &Leased| l.event.as_ref().is_ok_and(|e| size(e) < NOTIFIED_MAX);
                fetched.into_iter().filter(fits).collect()
            }
            Mutant::SwappedBroadcasts => {
                let mut held = self.held.lock().unwrap();
                let mut given = Vec::new();
                for leased in fetched {
                    match held.take() {
                        Some(before) => given.extend([leased, before]),
                        None => *held = Some(leased),
                    }
                }
                given
            }
            _ => fetched,
        }
    }
}

/// Returns it once more.
fn again(leased: &Leased) -> Leased {
    Leased {
        receipt: leased.receipt.clone(),
        event: leased.event.clone(),
        attempt: leased.attempt,
        lost: leased.lost,
        finished: Vec::new(),
        only: None,
    }
}

#[async_trait]
impl Source for Heard {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        loop {
            let fetched = self.next(max).await?;
            let stopped = fetched.is_empty();
            let given = self.given(fetched);
            if stopped || !given.is_empty() {
                return Ok(given);
            }
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        self.inner.settle(batch).await
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        self.inner.handed_out().await
    }

    async fn gap(&self) {
        self.inner.gap().await;
        self.deaf.store(true, SeqCst);
    }

    fn stop(&self) {
        self.inner.stop();
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
