//! The member of the group that gets what requests bring.

use super::door::Door;
use crate::{
    backend::{Leased, Settle, Source},
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

/// The member, as the backend opened it.
#[derive(Debug)]
pub(super) struct DoorSource {
    pub(super) door: Arc<Door>,
    pub(super) number: u64,
    pub(super) lease: Duration,
    pub(super) stopped: AtomicBool,
}

#[async_trait]
impl Source for DoorSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        loop {
            // From here on nothing that arrives is missed.
            let arrived = self.door.desk.arrived.notified();
            if self.stopped.load(SeqCst) || self.door.desk.is_closed() {
                return Ok(Vec::new());
            }
            let leased = self.door.desk.fetch(self.number, self.lease, max);
            if !leased.is_empty() {
                return Ok(leased);
            }
            arrived.await;
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let settled = batch.iter().map(|settle| match self.door.desk.settle(settle, self.lease) {
            true => Ok(()),
            false => {
                let why = "the lease was lost: the sender was told to send the event again";
                Err(Error::new(ErrorKind::Stale, "settle", why))
            }
        });
        let settled = settled.collect();
        self.door.desk.settled.notify_waiters();
        settled
    }

    fn stop(&self) {
        if !self.stopped.swap(true, SeqCst) {
            self.door.desk.leave(self.number);
        }
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        Ok(())
    }
}

impl Drop for DoorSource {
    fn drop(&mut self) {
        self.stop();
    }
}
