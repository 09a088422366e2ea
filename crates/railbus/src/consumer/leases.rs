//! Keeping leases alive while handlers run.

use super::settler::Settler;
use crate::{
    backend::Receipt,
    sync::{Mutex, MutexGuard},
};
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, HashSet},
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The deliveries in flight.
#[derive(Clone, Default)]
pub(super) struct Leases(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    made: u64,
    // In the order they were taken, so that they are renewed in it, too.
    kept: BTreeMap<u64, Kept>,
}

/// Leases that are kept together, and when they were last renewed.
struct Kept {
    // None are taken out, however many: whether each is kept still is said beside it.
    receipts: SmallVec<[(Receipt, bool); 1]>,
    // Where the next is looked for: they end in the order they were taken, or nearly so.
    next: usize,
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
            kept.end(receipt);
            kept.renewed
        });
        let number = all.keep([receipt.clone()], renewed);
        drop(all);
        Self { leases: self.leases.clone(), number }
    }

    /// Ends those that are about to be settled: no renewal may overtake the end.
    pub(super) fn end(&self, receipts: &[Receipt]) {
        if let Some(kept) = self.leases.lock().kept.get_mut(&self.number) {
            for receipt in receipts {
                kept.end(receipt);
            }
        }
    }
}

impl Kept {
    /// Ends one; tells whether it was kept.
    fn end(&mut self, receipt: &Receipt) -> bool {
        let (before, behind) = self.receipts.split_at(self.next);
        let is = |(other, _): &(Receipt, bool)| other == receipt;
        let found = behind.iter().position(is).map(|at| before.len() + at);
        let Some(at) = found.or_else(|| before.iter().position(is)) else { return false };
        self.next = at + 1;
        mem::take(&mut self.receipts[at].1)
    }

    /// Returns those that are kept still.
    fn left(&self) -> impl Iterator<Item = Receipt> {
        self.receipts.iter().filter(|(_, kept)| *kept).map(|(receipt, _)| receipt.clone())
    }
}

impl All {
    fn keep(
        &mut self,
        receipts: impl IntoIterator<Item = Receipt>,
        renewed: Option<Instant>,
    ) -> u64 {
        self.made += 1;
        let renewed = renewed.unwrap_or_else(Instant::now);
        let receipts = receipts.into_iter().map(|receipt| (receipt, true)).collect();
        self.kept.insert(self.made, Kept { receipts, next: 0, renewed });
        self.made
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, All> {
        lock(&self.0)
    }

    /// Keeps leases alive, even if what they were taken for panics.
    pub(super) fn hold(&self, receipts: impl IntoIterator<Item = Receipt>) -> Held {
        let number = self.lock().keep(receipts, None);
        Held { leases: self.clone(), number }
    }

    /// Returns all deliveries that are held.
    pub(super) fn all(&self) -> Vec<Receipt> {
        self.lock().kept.values().flat_map(Kept::left).collect()
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
        all.kept.get_mut(&number).is_some_and(|kept| kept.end(receipt))
    }

    pub(super) fn due(&self, third: Duration) -> Vec<(u64, Receipt)> {
        let now = Instant::now();
        let mut all = self.lock();
        // Looked at four times a third: what is due before the next look is due now.
        let due = |kept: &Kept| now.duration_since(kept.renewed) >= third * 3 / 4;
        let due = all.kept.iter_mut().filter(|(_, kept)| due(kept));
        due.flat_map(|(number, kept)| {
            kept.renewed = now;
            kept.left().map(|receipt| (*number, receipt))
        })
        .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(railbus_loom)))]
mod tests {
    use super::*;

    fn receipt(place: u64) -> Receipt {
        Receipt { place, fence: 1, token: None }
    }

    #[test]
    fn what_ends_or_is_kept_by_itself_is_left_out_in_whatever_order() {
        let leases = Leases::default();
        let held = leases.hold((0..6).map(receipt));
        let places = |leases: &Leases| {
            let mut places: Vec<_> = leases.all().iter().map(|receipt| receipt.place).collect();
            places.sort_unstable();
            places
        };
        let part = held.part(&receipt(4));
        assert_eq!(places(&leases), [0, 1, 2, 3, 4, 5], "each once");
        held.end(&[receipt(1), receipt(0), receipt(9), receipt(5)]);
        assert_eq!(places(&leases), [2, 3, 4]);
        assert!(leases.lost(held.number, &receipt(2)));
        assert!(!leases.lost(held.number, &receipt(2)), "it was lost before");
        drop(held);
        assert_eq!(places(&leases), [4]);
        drop(part);
        assert_eq!(places(&leases), [0; 0]);
    }

    /// The shortest time that holding so many and ending them takes, half of them by themselves.
    fn ending(count: u64) -> Duration {
        let once = |_| {
            let (leases, all) = (Leases::default(), (0..count).map(receipt).collect::<Vec<_>>());
            let (alone, together) = all.split_at(all.len() / 2);
            let began = Instant::now();
            let held = leases.hold(all.iter().cloned());
            let parts: Vec<_> = alone.iter().map(|receipt| held.part(receipt)).collect();
            held.end(together);
            drop((parts, held));
            began.elapsed()
        };
        (0..5).map(once).min().unwrap_or_default()
    }

    #[test]
    fn many_leases_take_each_as_long_as_few() {
        let (few, many) = (ending(256), ending(64 * 256));
        assert!(many < few * 64 * 8, "{few:?}, and 64 times as many {many:?}");
    }
}
