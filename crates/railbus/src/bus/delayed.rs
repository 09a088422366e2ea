//! Broadcasts that are held back in the process.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::oneshot, time::Instant};

/// Broadcasts that are not due yet, by the id of their event.
#[derive(Debug, Default)]
pub(super) struct Delayed(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    made: u64,
    by_id: HashMap<String, Vec<Broadcast>>,
}

/// A broadcast that is held back.
#[derive(Debug)]
pub(super) struct Broadcast {
    number: u64,
    // No group gets the event before.
    due: Instant,
    withdrawn: oneshot::Sender<bool>,
}

/// Broadcasts of an event that are about to be withdrawn, or to be left as they are: until that is
/// told, they are handed to nobody.
pub(super) struct Deciding(Vec<Broadcast>);

impl Delayed {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds one back; returns its number, and where it comes whether it was withdrawn.
    pub(super) fn hold(&self, id: &str, due: Instant) -> (u64, oneshot::Receiver<bool>) {
        let (withdrawn, told) = oneshot::channel();
        let mut held = self.lock();
        held.made += 1;
        let number = held.made;
        held.by_id.entry(id.into()).or_default().push(Broadcast { number, due, withdrawn });
        (number, told)
    }

    /// Ends holding one back; false if somebody decides about it.
    pub(super) fn let_go(&self, id: &str, number: u64) -> bool {
        let mut held = self.lock();
        let Some(of_id) = held.by_id.get_mut(id) else { return false };
        let before = of_id.len();
        of_id.retain(|one| one.number != number);
        let was_held = of_id.len() < before;
        if of_id.is_empty() {
            held.by_id.remove(id);
        }
        was_held
    }

    /// Takes all of this id, to decide about them.
    pub(super) fn decide(&self, id: &str) -> Deciding {
        Deciding(self.lock().by_id.remove(id).unwrap_or_default())
    }
}

impl Deciding {
    /// Tells whether there is one, and none is due anywhere.
    pub(super) fn are_early(&self) -> bool {
        let now = Instant::now();
        !self.0.is_empty() && self.0.iter().all(|one| one.due > now)
    }

    /// Withdraws them.
    pub(super) fn withdraw(mut self) {
        for one in mem::take(&mut self.0) {
            // Who holds it back is gone only with its bus.
            let _ = one.withdrawn.send(true);
        }
    }
}
