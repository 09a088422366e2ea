//! What is remembered of an event that did not simply succeed.

use crate::{
    backend::HISTORY_MAX,
    delivery::{End, Try},
};
use std::sync::Arc;

/// What became of an event so far: who is through with it, and what failed.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The names of the subscriptions that are through with it.
    pub(super) finished: Vec<String>,
    /// Its failed tries, oldest first, at most [`HISTORY_MAX`].
    pub(super) history: Vec<Try>,
    /// The one subscription it is for, if it was handed back from that one's dead letters.
    pub(super) only: Option<String>,
}

impl Record {
    /// Adds failed tries, keeping the latest.
    pub(super) fn lengthen(&mut self, failed: impl IntoIterator<Item = Try>) {
        self.history.extend(failed);
        let surplus = self.history.len().saturating_sub(HISTORY_MAX);
        self.history.drain(..surplus);
    }

    /// Adds subscriptions that are through with it.
    pub(super) fn finish(&mut self, ended: &[(Arc<str>, End)]) {
        for (name, _) in ended {
            if !self.finished.iter().any(|known| **known == **name) {
                self.finished.push(name.to_string());
            }
        }
    }

    /// Returns the failed tries that concern a subscription; a lease that ran out was nobody's in
    /// particular.
    pub(super) fn tries_of(&self, subscription: &str) -> Vec<Try> {
        let concerns = |t: &&Try| t.subscription == subscription || t.subscription.is_empty();
        self.history.iter().filter(concerns).cloned().collect()
    }
}
