//! What this process knows of earlier deliveries, which has no place in a message: tries in place, who is
//! through, what failed. Another process that gets the event knows none of it.

use crate::{
    backend::HISTORY_MAX,
    delivery::{End, Try},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Of how many events it is remembered, the last ones.
const KEPT: usize = 10_000;

/// What is known of one event.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Tries that were made in place.
    pub(super) tries: u32,
    /// How often it was received here and not handed out, which the service counts.
    pub(super) unseen: u32,
    /// The subscriptions that are through with it.
    pub(super) finished: Vec<String>,
    /// The tries that failed.
    pub(super) failed: Vec<Try>,
}

/// What is known of events, by the ids of their messages.
#[derive(Debug, Default)]
pub(super) struct Pasts(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    by_id: HashMap<Arc<str>, Past>,
    order: VecDeque<Arc<str>>,
}

impl Pasts {
    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known of an event.
    pub(super) fn of(&self, id: &str) -> Past {
        self.all().by_id.get(id).cloned().unwrap_or_default()
    }

    /// Notes something of an event.
    pub(super) fn note(&self, id: &Arc<str>, change: impl FnOnce(&mut Past)) {
        let mut all = self.all();
        if !all.by_id.contains_key(id) {
            // Those that are through leave their ids behind.
            while all.order.len() >= KEPT {
                let Some(oldest) = all.order.pop_front() else { break };
                all.by_id.remove(&oldest);
            }
            all.order.push_back(Arc::clone(id));
        }
        change(all.by_id.entry(Arc::clone(id)).or_default());
    }

    /// Forgets an event that is through.
    pub(super) fn forget(&self, id: &str) {
        self.all().by_id.remove(id);
    }
}

impl Past {
    /// Notes what a settlement tells.
    pub(super) fn add(&mut self, ended: &[(Arc<str>, End)], failed: &[Try]) {
        self.finished.extend(ended.iter().map(|(name, _)| name.to_string()));
        self.failed.extend_from_slice(failed);
        let surplus = self.failed.len().saturating_sub(HISTORY_MAX);
        self.failed.drain(..surplus);
    }
}
