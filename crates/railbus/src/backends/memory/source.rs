//! A member of a group.

use super::{
    group::Found,
    store::{State, Store, closed},
};
use crate::{
    backend::{Leased, Settle, Source},
    error::{Error, ErrorKind, Result},
    sync::AtomicBool,
};
use async_trait::async_trait;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// A member of a group, as its connection opened it.
#[derive(Debug)]
pub(super) struct GroupSource {
    pub(super) store: Arc<Store>,
    /// Whether the connection was closed.
    pub(super) closed: Arc<AtomicBool>,
    pub(super) name: String,
    pub(super) group: u64,
    pub(super) member: u64,
    pub(super) lease: Duration,
    pub(super) wake: Arc<Notify>,
}

impl GroupSource {
    async fn wait(&self, until: Option<Instant>) {
        // Whoever stops waiting in the middle leaves what it was woken for to the others.
        let dropped = Dropped(self);
        match until {
            Some(until) => {
                tokio::select! {
                    // Nothing is left to chance, so that loom can go the same way again.
                    biased;
                    () = self.wake.notified() => {}
                    () = sleep_until(until) => {}
                }
            }
            None => self.wake.notified().await,
        }
        std::mem::forget(dropped);
    }
}

struct Dropped<'a>(&'a GroupSource);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.store.with(|state| {
            if let Some(group) = state.group_mut(self.0.group) {
                group.stopped_waiting(self.0.member);
            }
        });
    }
}

#[async_trait]
impl Source for GroupSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        loop {
            let claim = |state: &mut State| state.claim(self.group, self.member, self.lease, max);
            let found = self.store.with(claim);
            match found {
                Found::Events(events) => return Ok(events),
                Found::Nothing(until) => self.wait(until).await,
                Found::Stopped => return Ok(Vec::new()),
                Found::Gone => {
                    let why = "the group was pruned while it was open";
                    return Err(Error::new(ErrorKind::NotFound, "fetch", why)
                        .with("group", &self.name)
                        .hint("subscribe again to open it anew"));
                }
            }
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        if self.closed.load(Relaxed) {
            return vec![Err(closed()); batch.len()];
        }
        let settle = |state: &mut State| state.settle(self.group, self.lease, batch);
        let (kept, asked) = self.store.with(|state| (settle(state), state.asking > 0));
        if asked {
            self.store.quiet.notify_waiters();
        }
        kept.into_iter().map(|kept| if kept { Ok(()) } else { Err(stale()) }).collect()
    }

    fn stop(&self) {
        let leave = |state: &mut State| state.leave(Some(self.group), |m, _| m == self.member);
        self.store.with(leave);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        Ok(())
    }
}

impl Drop for GroupSource {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stale() -> Error {
    let why = "the lease was lost: the event was given to another delivery";
    Error::new(ErrorKind::Stale, "settle", why)
}
