//! What all in one simulation share.

use super::{
    ledger::Ledger,
    luck::{FAULTS, Fault, Luck},
};
use crate::{
    backend::{Backend, GroupInfo},
    backends::memory::Memory,
    event::Event,
    predicate::Interest,
};
use futures_util::FutureExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Who publishes what the body of a simulation does.
pub(super) const DRIVER: &str = "driver";

/// One run of a simulation.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) memory: Memory,
    luck: Mutex<Luck>,
    ledger: Mutex<Ledger>,
    began: Instant,
}

impl World {
    pub(super) fn new(seed: u64, memory: Memory, luck: Luck) -> Arc<Self> {
        let (luck, ledger, began) = (Mutex::new(luck), Mutex::default(), Instant::now());
        Arc::new(Self { seed, memory, luck, ledger, began })
    }

    pub(super) fn luck(&self) -> MutexGuard<'_, Luck> {
        self.luck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happened.
    pub(super) fn note(&self, who: &str, what: &str) {
        self.ledger().note(self.began.elapsed(), who, what);
    }

    /// Tells whether a fault befalls a process now, and notes it.
    pub(super) fn befalls(&self, who: &str, fault: Fault) -> bool {
        let costs = match fault {
            Fault::PublishFails | Fault::AnswerLost => who != DRIVER,
            Fault::PublishedTwice | Fault::FetchFails | Fault::Slow => false,
            _ => true,
        };
        let befalls = self.luck().befalls(fault, costs);
        if befalls {
            let what =
                FAULTS.iter().find(|(known, _)| *known == fault).map_or("", |(_, what)| what);
            self.note(who, &format!("! {what}"));
        }
        befalls
    }

    /// Returns the groups there are.
    pub(super) fn groups(&self) -> Vec<GroupInfo> {
        // Memory never waits here.
        let listed = self.memory.keeper().and_then(|keeper| keeper.groups().now_or_never());
        listed.and_then(Result::ok).unwrap_or_default()
    }

    /// Waits until no group has anything that is not settled.
    pub(super) async fn through(&self) {
        let all = |info: GroupInfo| (info.name, Interest::all());
        let groups: Vec<_> = self.groups().into_iter().map(all).collect();
        // It ends with an error only if memory is closed.
        let _ = self.memory.settled(&groups).await;
    }

    /// Takes note that an event was stored.
    pub(super) fn stored(&self, event: &Event) {
        let wants =
            |info: &GroupInfo| info.interest.compile().matches(event.event_type(), event.topic());
        let groups = self.groups().into_iter().filter(wants).map(|info| info.name).collect();
        self.ledger().stored(event, groups);
    }

    /// Returns what is not as it must be, once all is through.
    pub(super) fn broken(&self) -> Vec<String> {
        let groups: Vec<_> = self.groups().into_iter().map(|info| info.name).collect();
        self.ledger().broken(&groups)
    }
}
