//! Watching batches, so that none of them is held up for long.

use super::batch::{Batch, PATIENCE};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::{sync::Notify, time::sleep};

/// The batches under way.
#[derive(Default)]
pub(super) struct Watch {
    batches: Mutex<Vec<Weak<Batch>>>,
    begun: Notify,
}

impl Watch {
    /// Looks after a batch from here on.
    pub(super) fn add(&self, batch: &Arc<Batch>) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.retain(|batch| batch.strong_count() > 0);
        batches.push(Arc::downgrade(batch));
        drop(batches);
        self.begun.notify_one();
    }

    /// Relieves each batch that takes its time; never returns.
    pub(super) async fn run(&self) {
        loop {
            self.begun.notified().await;
            while self.relieve(Batch::is_overdue) {
                sleep(PATIENCE).await;
            }
        }
    }

    /// Relieves all batches.
    pub(super) fn relieve_all(&self) {
        self.relieve(|_| true);
    }

    /// Relieves those of which `due` is true; tells whether there are others.
    fn relieve(&self, due: impl Fn(&Batch) -> bool) -> bool {
        let mut due_now = Vec::new();
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.retain(|batch| {
            let Some(batch) = batch.upgrade() else { return false };
            let stays = !due(&batch);
            due_now.push((batch, stays));
            stays
        });
        let others = !batches.is_empty();
        drop(batches);
        // Dropped after the lock, too: it may be the last who has it.
        due_now.iter().filter(|(_, stays)| !stays).for_each(|(batch, _)| batch.relieve());
        others
    }
}
