//! Keeping leases alive while handlers run.

use super::settler::Settler;
use crate::{
    backend::Receipt,
    sync::{Mutex, MutexGuard},
};
use smallvec::{SmallVec, smallvec};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// The deliveries in flight.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    made: u64,
    kept: HashMap<u64, Kept>,
}

/// Leases that are kept together, and when they were last renewed.
struct Kept {
    receipts: SmallVec<[Receipt; 1]>,
    renewed: Instant,
}

/// Leases that are kept alive until this is dropped.
pub(super) struct Held {
    leases: Leases,
    number: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let kept = self.leases.lock().kept.remove(&self.number);
        drop(kept);
    }
}

impl Held {
    /// Keeps one of them by itself.
    pub(super) fn part(&self, receipt: &Receipt) -> Self {
        let mut all = self.leases.lock();
        let kept = all.kept.get_mut(&self.number);
        // As old as it is: otherwise it would be renewed too late.
        let renewed = kept.map(|kept| {
            kept.receipts.retain(|other| other != receipt);
            kept.renewed
        });
        let number = all.keep(smallvec![receipt.clone()], renewed);
        drop(all);
        Self { leases: self.leases.clone(), number }
    }

    /// Ends those that are about to be settled: no renewal may overtake the end.
    pub(super) fn end(&self, receipts: &[Receipt]) {
        if let Some(kept) = self.leases.lock().kept.get_mut(&self.number) {
            kept.receipts.retain(|receipt| !receipts.contains(receipt));
        }
    }
}

impl All {
    fn keep(&mut self, receipts: SmallVec<[Receipt; 1]>, renewed: Option<Instant>) -> u64 {
        self.made += 1;
        let renewed = renewed.unwrap_or_else(Instant::now);
        self.kept.insert(self.made, Kept { receipts, renewed });
        self.made
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, All> {
        lock(&self.0)
    }

    /// Keeps leases alive, even if what they were taken for panics.
    pub(super) fn hold(&self, receipts: SmallVec<[Receipt; 1]>) -> Held {
        let number = self.lock().keep(receipts, None);
        Held { leases: self.clone(), number }
    }

    /// Returns all deliveries that are held.
    pub(super) fn all(&self) -> Vec<Receipt> {
        self.lock().kept.values().flat_map(|kept| kept.receipts.iter().cloned()).collect()
    }

    /// Renews each lease after a third of its time, so that two renewals may fail; never returns.
    ///
    /// What fails for reasons that may pass is asked for again in its turn, even after the lease's
    /// time: as long as nobody else has the event, it may be kept.
    pub(super) async fn renew(self, settler: Settler, lease: Duration) {
        let third = lease / 3;
        let asking = Arc::<Mutex<HashSet<Receipt>>>::default();
        loop {
            tokio::time::sleep(third / 4).await;
            for (number, receipt) in self.due(third) {
                // One at a time for each, however long a store takes to answer.
                if !lock(&asking).insert(receipt.clone()) {
                    continue;
                }
                let (leases, settler) = (self.clone(), settler.clone());
                let asking = Arc::clone(&asking);
                tokio::spawn(async move {
                    let renewed = settler.renew(receipt.clone()).await;
                    lock(&asking).remove(&receipt);
                    match renewed {
                        Ok(()) => {}
                        Err(error) if error.is_retryable() => {
                            tracing::warn!(%error, "a lease could not be renewed yet");
                        }
                        Err(error) if leases.lost(number, &receipt) => {
                            tracing::warn!(%error, "a lease could not be renewed");
                        }
                        // Settled meanwhile.
                        Err(_) => {}
                    }
                });
            }
        }
    }

    /// Forgets a lease that could not be renewed; tells whether it was still held.
    fn lost(&self, number: u64, receipt: &Receipt) -> bool {
        let mut all = self.lock();
        let Some(kept) = all.kept.get_mut(&number) else { return false };
        let before = kept.receipts.len();
        kept.receipts.retain(|other| other != receipt);
        kept.receipts.len() < before
    }

    pub(super) fn due(&self, third: Duration) -> Vec<(u64, Receipt)> {
        let now = Instant::now();
        let mut all = self.lock();
        // Looked at four times a third: what is due before the next look is due now.
        let due = |kept: &Kept| now.duration_since(kept.renewed) >= third * 3 / 4;
        let due = all.kept.iter_mut().filter(|(_, kept)| due(kept));
        due.flat_map(|(number, kept)| {
            kept.renewed = now;
            kept.receipts.iter().map(|receipt| (*number, receipt.clone()))
        })
        .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
