//! Keeping leases alive while handlers run.

use super::settler::Settler;
use crate::backend::{Receipt, Settle, Verdict};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The deliveries in flight, each with the time its lease was last renewed.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<HashMap<Receipt, Instant>>>);

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<Receipt, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, receipt: Receipt) {
        self.lock().insert(receipt, Instant::now());
    }

    pub(super) fn end(&self, receipt: &Receipt) {
        self.lock().remove(receipt);
    }

    /// Returns all deliveries in flight.
    pub(super) fn all(&self) -> Vec<Receipt> {
        self.lock().keys().cloned().collect()
    }

    /// Renews each lease after a third of its time, so that two renewals may fail; never returns.
    pub(super) async fn renew(self, settler: Settler, lease: Duration) {
        let third = lease / 3;
        loop {
            tokio::time::sleep(third / 2).await;
            for receipt in self.due(third) {
                let (leases, settler) = (self.clone(), settler.clone());
                // Each on its own: one that hangs must not keep the others from renewing.
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

    fn due(&self, third: Duration) -> Vec<Receipt> {
        let now = Instant::now();
        let mut leases = self.lock();
        let due =
            leases.iter_mut().filter(|(_, renewed)| now.duration_since(**renewed) >= third / 2);
        due.map(|(receipt, renewed)| {
            *renewed = now;
            receipt.clone()
        })
        .collect()
    }
}
