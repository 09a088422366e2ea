//! A member of a group: fetches what it has room for, runs it, drains.

use super::{
    entry::{Fallback, Matching},
    leases::Leases,
    settler::Settler,
    work::{After, Shared, work},
};
use crate::{
    backend::{Leased, Settle, Source, Verdict},
    error::{Error, ErrorKind},
    instrument::Counters,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinHandle, JoinSet},
};

/// The waits after a fetch that failed, the last one for ever.
const BACKOFF: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// What starts a member.
pub(crate) struct Start {
    pub(crate) group: Arc<str>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) matching: Matching,
    pub(crate) policy: Fallback,
    pub(crate) lease: Duration,
    pub(crate) limit: usize,
    pub(crate) counters: Arc<Counters>,
}

/// A member of a group at work.
pub(crate) struct Group {
    source: Arc<dyn Source>,
    leases: Leases,
    settler: Settler,
    draining: watch::Sender<bool>,
    running: Mutex<Option<JoinHandle<Option<Error>>>>,
    renewing: JoinHandle<()>,
    failed: Arc<watch::Sender<Option<Error>>>,
}

impl Group {
    pub(crate) fn start(start: Start) -> Self {
        let Start { group, source, matching, policy, lease, limit, counters } = start;
        let settler = Settler::start(Arc::clone(&source));
        let leases = Leases::default();
        let (draining, drained) = watch::channel(false);
        let renewing = tokio::spawn(leases.clone().renew(settler.clone(), lease));
        let shared = Arc::new(Shared {
            group,
            matching,
            policy,
            source: Arc::clone(&source),
            settler: settler.clone(),
            leases: leases.clone(),
            lease,
            draining: drained,
            counters,
        });
        let failed = Arc::new(watch::Sender::new(None));
        let running = tokio::spawn(run(shared, Arc::clone(&source), limit, Arc::clone(&failed)));
        let running = Mutex::new(Some(running));
        Self { source, leases, settler, draining, running, renewing, failed }
    }

    /// Returns what ended the group by itself, now or later.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.failed.subscribe()
    }

    /// Stops fetching; what runs goes on.
    pub(crate) fn stop(&self) {
        self.draining.send_replace(true);
        self.source.stop();
    }

    /// Stops fetching, waits for what runs, and gives the rest back at the deadline.
    pub(crate) async fn drain(&self, deadline: Duration) {
        self.stop();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut running) = running
            && tokio::time::timeout(deadline, &mut running).await.is_err()
        {
            running.abort();
            // The tasks are gone once the handle is: nothing settles behind our back.
            let _ = running.await;
            for receipt in self.leases.all() {
                let release = Settle::new(receipt, Verdict::Release { delay: Duration::ZERO });
                let _ = self.settler.settle(release).await;
            }
        }
        self.renewing.abort();
        let _ = self.source.close().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
        self.renewing.abort();
    }
}

/// Fetches as much as there is room for until stopped, then waits for what runs.
async fn run(
    shared: Arc<Shared>,
    source: Arc<dyn Source>,
    limit: usize,
    failed: Arc<watch::Sender<Option<Error>>>,
) -> Option<Error> {
    let room = Arc::new(Semaphore::new(limit));
    let mut tasks = JoinSet::new();
    let mut failures = 0;
    let fail = |error: Error| {
        failed.send_replace(Some(error));
    };
    while let Some(permit) = next_room(&room, &mut tasks, &shared, &fail).await {
        let max = 1 + room.available_permits();
        match source.fetch(max).await {
            Ok(leased) if leased.is_empty() => break,
            Ok(leased) => {
                failures = 0;
                begin(&shared, &room, permit, leased, &mut tasks).await;
            }
            Err(e) if matches!(e.kind(), ErrorKind::Closed | ErrorKind::NotFound) => {
                if e.kind() == ErrorKind::NotFound {
                    tracing::error!(group = &*shared.group, error = %e, "the group stops");
                    fail(e);
                }
                break;
            }
            Err(error) => {
                let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
                failures += 1;
                tracing::warn!(group = &*shared.group, %error, again_in = ?wait, "fetching failed");
                let mut draining = shared.draining.clone();
                let _ = tokio::time::timeout(wait, draining.wait_for(|d| *d)).await;
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        after(ended, &shared, &fail);
    }
    failed.borrow().clone()
}

type Ended = Result<After, tokio::task::JoinError>;

/// Waits for room for one more delivery; none once the group stops.
async fn next_room(
    room: &Arc<Semaphore>,
    tasks: &mut JoinSet<After>,
    shared: &Shared,
    fail: &impl Fn(Error),
) -> Option<OwnedSemaphorePermit> {
    let mut draining = shared.draining.clone();
    let permit = tokio::select! {
        biased;
        _ = draining.wait_for(|draining| *draining) => return None,
        permit = Arc::clone(room).acquire_owned() => permit.ok()?,
    };
    while let Some(ended) = tasks.try_join_next() {
        if !after(ended, shared, fail) {
            return None;
        }
    }
    Some(permit)
}

/// Starts a task for each delivery, or gives them back if the group began to drain meanwhile.
async fn begin(
    shared: &Arc<Shared>,
    room: &Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
    leased: Vec<Leased>,
    tasks: &mut JoinSet<After>,
) {
    let mut first = Some(permit);
    for leased in leased {
        if *shared.draining.borrow() {
            let release = Settle::new(leased.receipt, Verdict::Release { delay: Duration::ZERO });
            let _ = shared.settler.settle(release).await;
            continue;
        }
        let permit = match first.take() {
            Some(permit) => permit,
            // A source that gives more than asked for waits here; its leases hold.
            None => match Arc::clone(room).acquire_owned().await {
                Ok(permit) => permit,
                Err(_) => return,
            },
        };
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            let after = work(&shared, leased).await;
            drop(permit);
            after
        });
    }
}

/// Looks at how a delivery ended; false if the group must stop.
fn after(ended: Ended, shared: &Shared, fail: &impl Fn(Error)) -> bool {
    match ended {
        Ok(After::GoOn) => true,
        Ok(After::Stop(reason)) => {
            let error = Error::new(ErrorKind::Handler, "consume", "the failure policy said stop")
                .with("group", &shared.group)
                .with("reason", reason);
            tracing::error!(%error, "the group stops");
            fail(error);
            false
        }
        Err(e) => {
            tracing::error!(group = &*shared.group, error = %e, "a delivery ended abnormally");
            true
        }
    }
}
