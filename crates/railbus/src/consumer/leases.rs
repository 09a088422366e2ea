//! Keeping leases alive while handlers run.

use super::settler::Settler;
use crate::{
    backend::{Receipt, Settle, Verdict},
    sync::{Mutex, MutexGuard},
};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// The deliveries in flight, each with the time its lease was last renewed.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<Receipt, Instant>>>);

/// A lease that is kept alive until this is dropped.
pub(super) struct Held {
    leases: Leases,
    receipt: Receipt,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.end(&self.receipt);
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<Receipt, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a lease alive, even if what it was taken for panics.
    pub(super) fn hold(&self, receipt: Receipt) -> Held {
        self.lock().insert(receipt.clone(), Instant::now());
        Held { leases: self.clone(), receipt }
    }

    pub(super) fn end(&self, receipt: &Receipt) {
        self.lock().remove(receipt);
    }

    /// Returns all deliveries that are held.
    pub(super) fn all(&self) -> Vec<Receipt> {
        self.lock().keys().cloned().collect()
    }

    /// Renews each lease after a third of its time, so that two renewals may fail; never returns.
    pub(super) async fn renew(self, settler: Settler, lease: Duration) {
        let third = lease / 3;
        loop {
            tokio::time::sleep(third / 4).await;
            for receipt in self.due(third) {
                let (leases, settler) = (self.clone(), settler.clone());
                tokio::spawn(async move {
                    let extend = Settle::new(receipt.clone(), Verdict::Extend { tries: 0 });
                    if let Err(error) = settler.settle(extend).await
                        && leases.lock().remove(&receipt).is_some()
                    {
                        tracing::warn!(%error, "a lease could not be renewed");
                    }
                });
            }
        }
    }

    pub(super) fn due(&self, third: Duration) -> Vec<Receipt> {
        let now = Instant::now();
        let mut leases = self.lock();
        // Looked at four times a third: what is due before the next look is due now.
        let due = |renewed: &Instant| now.duration_since(*renewed) >= third * 3 / 4;
        let due = leases.iter_mut().filter(|(_, renewed)| due(renewed));
        due.map(|(receipt, renewed)| {
            *renewed = now;
            receipt.clone()
        })
        .collect()
    }
}
