//! Open subscriptions: a member of a group, and a listener to broadcasts.

use crate::{backend::Shared, group::Group, log};
use async_trait::async_trait;
use railbus::{
    Error, ErrorKind, Result,
    backend::{Leased, Receipt, Settle, SharedFilter, Source},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};

/// How soon it is looked again whether there is something, since files tell nobody: ever later, while
/// there is nothing.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_LAST: Duration = Duration::from_millis(32);

/// Says when a source is to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    told: Notify,
}

impl Stop {
    pub(crate) fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.told.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    /// Waits for a while, or until it is stopped; returns how long to wait the next time.
    async fn wait(&self, pause: Duration) -> Duration {
        if !self.is_stopped() {
            // Either way it is looked again.
            let _ = timeout(pause, self.told.notified()).await;
        }
        (pause * 2).min(LOOK_LAST)
    }
}

/// A member of a group.
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) group: Group,
    pub(crate) wanted: SharedFilter,
    pub(crate) lease: Duration,
}

#[async_trait]
impl Source for Member {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut pause = LOOK_FIRST;
        while !self.stop.is_stopped() {
            let (group, wanted, lease) = (self.group.clone(), self.wanted.clone(), self.lease);
            let stop = Arc::clone(&self.stop);
            let claim = move || match stop.is_stopped() {
                true => Ok(Vec::new()),
                false => group.claim(&wanted, lease, max),
            };
            let leased = self.shared.run(claim).await?;
            if !leased.is_empty() {
                return Ok(leased);
            }
            pause = self.stop.wait(pause).await;
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let (group, settles, lease) = (self.group.clone(), batch.to_vec(), self.lease);
        match self.shared.run(move || group.settle(&settles, lease)).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); batch.len()],
        }
    }

    fn stop(&self) {
        self.stop.stop();
    }

    async fn close(&self) -> Result<()> {
        self.stop.stop();
        Ok(())
    }
}

/// A listener: it follows the log from where it ended.
pub(crate) struct Listener {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) wanted: SharedFilter,
    /// The last event that was looked at, and how many were handed out.
    pub(crate) cursor: AtomicU64,
    pub(crate) handed_out: AtomicU64,
}

#[async_trait]
impl Source for Listener {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut pause = LOOK_FIRST;
        while !self.stop.is_stopped() {
            let (root, wanted) = (self.shared.root.clone(), self.wanted.clone());
            let mut cursor = self.cursor.load(SeqCst);
            let read = move || {
                let mut found = Vec::new();
                while found.len() < max
                    && let Some(entry) = log::read(&root, cursor + 1)?
                {
                    cursor += 1;
                    if entry.is_wanted(&wanted) {
                        let receipt = Receipt { place: cursor, fence: 0, token: None };
                        let (event, attempt) = (entry.event(), 1);
                        let (lost, finished, only) = (false, Vec::new(), None);
                        found.push(Leased { receipt, event, attempt, lost, finished, only });
                    }
                }
                Ok((cursor, found))
            };
            let (cursor, found) = self.shared.run(read).await?;
            self.handed_out.fetch_add(found.len() as u64, SeqCst);
            self.cursor.store(cursor, SeqCst);
            if !found.is_empty() {
                return Ok(found);
            }
            pause = self.stop.wait(pause).await;
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let why = "a broadcast is not settled";
        vec![Err(Error::new(ErrorKind::Unsupported, "settle", why)); batch.len()]
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        let (root, cursor) = (self.shared.root.clone(), self.cursor.load(SeqCst));
        let ended = self.shared.run(move || Ok(log::last(&root, cursor) == cursor)).await?;
        Ok(ended.then(|| self.handed_out.load(SeqCst)))
    }

    fn stop(&self) {
        self.stop.stop();
    }

    async fn close(&self) -> Result<()> {
        self.stop.stop();
        Ok(())
    }
}
