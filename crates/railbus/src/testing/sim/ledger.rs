//! What happened in a simulation, and what must be true of it.

use crate::{
    backend::{Leased, Receipt, Settle, Verdict},
    event::Event,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    history: Vec<String>,
    // The events that groups are owed, by group and id, and whether they were settled.
    owed: BTreeMap<(String, String), bool>,
    // Which event is at a place of a group.
    places: BTreeMap<(String, u64), String>,
    settled: BTreeSet<(String, u64, u64)>,
    broken: Vec<String>,
}

impl Ledger {
    /// Notes a line of the history.
    pub(super) fn note(&mut self, at: Duration, who: &str, what: &str) {
        self.history.push(format!("{:>9.3} s  {who:<10} {what}", at.as_secs_f64()));
    }

    /// Returns the history.
    pub(super) fn history(&self) -> &[String] {
        &self.history
    }

    /// Takes note that an event is in the queue of these groups.
    pub(super) fn stored(&mut self, event: &Event, groups: Vec<String>) {
        for group in groups {
            self.owed.insert((group, event.id().to_owned()), false);
        }
    }

    /// Takes note that an event was taken back.
    pub(super) fn withdrawn(&mut self, event_id: &str) {
        self.owed.retain(|(_, id), _| id != event_id);
    }

    pub(super) fn leased(&mut self, group: &str, leased: &Leased) -> String {
        let id = leased.event.as_ref().map_or("?", |event| event.id());
        self.places.insert((group.to_owned(), leased.receipt.place), id.to_owned());
        format!("{group} is delivered {id}, try {}", leased.attempt)
    }

    /// Takes note of a settlement that the store took.
    pub(super) fn settled(&mut self, group: &str, settle: &Settle) -> String {
        let id = self.id_of(group, &settle.receipt);
        let what = match settle.verdict {
            Verdict::Ack => "is through with",
            Verdict::Nack { .. } => "gives back",
            Verdict::Extend { .. } => return format!("{group} keeps {id}"),
            Verdict::Release { .. } => "lets go of",
        };
        if settle.verdict == Verdict::Ack {
            let Receipt { place, fence, .. } = settle.receipt;
            if !self.settled.insert((group.to_owned(), place, fence)) {
                self.broken.push(format!("{group} settled {id} twice under one lease"));
            }
            self.owed.insert((group.to_owned(), id.clone()), true);
        }
        let reasons = settle.failed.iter().map(|failed| format!(": {}", failed.reason));
        format!("{group} {what} {id}{}", reasons.collect::<String>())
    }

    /// Returns what is at the place of a receipt.
    pub(super) fn id_of(&self, group: &str, receipt: &Receipt) -> String {
        let known = self.places.get(&(group.to_owned(), receipt.place));
        known.cloned().unwrap_or_else(|| "?".to_owned())
    }

    /// Returns what is not as it must be, once all is through; groups that are no more are owed
    /// nothing.
    pub(super) fn broken(&self, groups: &[String]) -> Vec<String> {
        let mut broken = self.broken.clone();
        for ((group, id), settled) in &self.owed {
            if !settled && groups.contains(group) {
                broken.push(format!("{id} was stored, and {group} never settled it: it is lost"));
            }
        }
        broken
    }
}
