//! A member of a group: fetches what it has room for, runs it, drains.

use super::{
    batch::Batch,
    entry::{Fallback, Matching},
    leases::Leases,
    pace::Pace,
    settler::Settler,
    work::{After, Shared, work},
};
use crate::{
    backend::{Leased, Receipt, Settle, Source, Verdict},
    error::{Error, ErrorKind},
    instrument::Counters,
};
use futures_util::{FutureExt, future::join_all};
use smallvec::smallvec;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

/// The waits after a fetch that failed, the last one for ever.
const BACKOFF: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// How long what is aborted at a deadline may take to end, and again to be given back.
const GRACE: Duration = Duration::from_secs(2);

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
    // Ends the deliveries under way.
    aborting: watch::Sender<bool>,
    // Kept here while it is waited for, so that a wait that is cut short can begin anew.
    running: Mutex<Option<JoinHandle<()>>>,
    failed: Arc<watch::Sender<Option<Error>>>,
}

impl Group {
    pub(crate) fn start(start: Start) -> Self {
        let Start { group, source, matching, policy, lease, limit, counters } = start;
        let settler = Settler::start(Arc::clone(&source));
        let leases = Leases::default();
        let (draining, drained) = watch::channel(false);
        let (aborting, aborted) = watch::channel(false);
        let shared = Arc::new(Shared {
            group,
            matching,
            policy,
            source: Arc::clone(&source),
            settler: settler.clone(),
            leases: leases.clone(),
            lease,
            draining: drained,
            pace: Pace::default(),
            counters,
        });
        let failed = Arc::new(watch::Sender::new(None));
        // A task of its own: handlers that run where they were fetched must not hold it up.
        let renewing = tokio::spawn(leases.clone().renew(settler.clone(), lease));
        let renewing = AbortOnDropHandle::new(renewing);
        let fetching =
            Fetching { shared, source: Arc::clone(&source), failed: Arc::clone(&failed) };
        let running = tokio::spawn(async move {
            fetching.run(limit, aborted).await;
            drop(renewing);
        });
        let running = Mutex::new(Some(running));
        Self { source, leases, settler, draining, aborting, running, failed }
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

    /// Tells whether nothing runs any more, and nothing will.
    pub(crate) fn is_over(&self) -> bool {
        match self.running.try_lock() {
            Ok(running) => running.as_ref().is_none_or(JoinHandle::is_finished),
            // Somebody waits for it.
            Err(_) => false,
        }
    }

    /// Stops fetching, waits for what runs, and gives the rest back at the deadline.
    ///
    /// # Cancel safety
    /// If it is dropped, what runs goes on; calling it again waits anew.
    pub(crate) async fn drain(&self, deadline: Duration) {
        self.stop();
        let mut running = self.running.lock().await;
        if let Some(handle) = running.as_mut()
            && timeout(deadline, &mut *handle).await.is_err()
        {
            let held = self.leases.all();
            self.aborting.send_replace(true);
            // What is aborted ends at its next await; one that never comes there can't be helped.
            let _ = timeout(GRACE, &mut *handle).await;
            self.give_back(held).await;
        }
        *running = None;
        let _ = self.source.close().await;
    }

    /// Gives back, all at once, what was under way at the deadline. What settled itself since is
    /// refused as stale, which is as well.
    async fn give_back(&self, held: Vec<Receipt>) {
        let releases = held.into_iter().map(|receipt| {
            let release = Settle::new(receipt, Verdict::Release { delay: Duration::ZERO });
            self.settler.settle(release)
        });
        let _ = timeout(GRACE, join_all(releases)).await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The fetching half of a member.
struct Fetching {
    shared: Arc<Shared>,
    source: Arc<dyn Source>,
    failed: Arc<watch::Sender<Option<Error>>>,
}

impl Fetching {
    /// Fetches as much as there is room for until stopped, then waits for what runs.
    async fn run(self, limit: usize, mut aborted: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        self.fetch(limit, &mut tasks).await;
        loop {
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                () = told(&mut aborted) => return tasks.shutdown().await,
            };
            match ended {
                Some(ended) => drop(self.after(ended)),
                None => return,
            }
        }
    }

    async fn fetch(&self, limit: usize, tasks: &mut JoinSet<After>) {
        let room = Arc::new(Semaphore::new(limit));
        let mut failures = 0;
        while let Some(permit) = self.next_room(&room, tasks).await {
            let max = 1 + room.available_permits();
            match self.source.fetch(max).await {
                Ok(leased) if leased.is_empty() => return,
                Ok(leased) => {
                    failures = 0;
                    if let Err(reason) = self.begin(&room, permit, leased, tasks).await {
                        return self.stopped(reason);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Closed => return,
                Err(e) if !e.is_retryable() => return self.fail(e),
                Err(error) => {
                    let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
                    failures += 1;
                    let group = &*self.shared.group;
                    tracing::warn!(group, %error, again_in = ?wait, "fetching failed");
                    let mut draining = self.shared.draining.clone();
                    let _ = timeout(wait, draining.wait_for(|d| *d)).await;
                }
            }
        }
    }

    fn fail(&self, error: Error) {
        tracing::error!(group = &*self.shared.group, %error, "the group stops");
        self.failed.send_replace(Some(error));
    }

    /// Waits for room for one more delivery; none once the group stops.
    async fn next_room(
        &self,
        room: &Arc<Semaphore>,
        tasks: &mut JoinSet<After>,
    ) -> Option<OwnedSemaphorePermit> {
        let mut draining = self.shared.draining.clone();
        let permit = tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => return None,
            permit = Arc::clone(room).acquire_owned() => permit.ok()?,
        };
        while let Some(ended) = tasks.try_join_next() {
            if !self.after(ended) {
                return None;
            }
        }
        Some(permit)
    }

    /// Runs deliveries here while they are quick, and starts a task for each of the others. An
    /// error is the reason why the group must stop.
    async fn begin(
        &self,
        room: &Arc<Semaphore>,
        permit: OwnedSemaphorePermit,
        leased: Vec<Leased>,
        tasks: &mut JoinSet<After>,
    ) -> Result<(), String> {
        let mut permit = permit;
        let more = u32::try_from(leased.len().saturating_sub(1)).unwrap_or(u32::MAX);
        if more > 0 {
            // It does not wait, unless a source gave more than it was asked for.
            match Arc::clone(room).acquire_many_owned(more).await {
                Ok(more) => permit.merge(more),
                Err(_) => return Ok(()),
            }
        }
        if self.shared.pace.is_quick() {
            let ran = AssertUnwindSafe(self.run_here(permit, leased, tasks)).catch_unwind().await;
            return ran.unwrap_or_else(|_| {
                // Of the user's code only what is dropped is not looked after before.
                let group = &*self.shared.group;
                tracing::error!(
                    group,
                    "a payload panicked as it was dropped: its batch may come again"
                );
                Ok(())
            });
        }
        // Held from here on: what waits for its turn is renewed, and given back if all is aborted.
        let held = leased.into_iter().map(|leased| {
            let held = self.shared.leases.hold(smallvec![leased.receipt.clone()]);
            (held, permit.split(1), leased)
        });
        for (held, room, leased) in held.collect::<Vec<_>>() {
            let shared = Arc::clone(&self.shared);
            tasks.spawn(async move {
                let after = work(&shared, leased, held).await;
                drop(room);
                after
            });
        }
        Ok(())
    }

    async fn run_here(
        &self,
        room: OwnedSemaphorePermit,
        leased: Vec<Leased>,
        tasks: &mut JoinSet<After>,
    ) -> Result<(), String> {
        let receipts = leased.iter().map(|leased| leased.receipt.clone());
        let held = self.shared.leases.hold(receipts.collect());
        let (settles, events) =
            (Vec::with_capacity(leased.len()), Vec::with_capacity(leased.len()));
        let shared = &self.shared;
        let mut batch = Batch { shared, tasks, room, held, settles, events };
        let mut leased = leased.into_iter();
        let ran = batch.run(&mut leased).await;
        for rest in leased {
            let receipt = rest.receipt.clone();
            batch.leave(&receipt, |shared, held| async move { work(&shared, rest, held).await });
        }
        batch.end().await;
        ran
    }

    fn stopped(&self, reason: String) {
        let why = "the failure policy said stop";
        let error = Error::new(ErrorKind::Handler, "consume", why);
        self.fail(error.with("group", &self.shared.group).with("reason", reason));
    }

    /// Looks at how a delivery ended; false if the group must stop.
    fn after(&self, ended: Ended) -> bool {
        match ended {
            Ok(After::GoOn) => true,
            Ok(After::Stop(reason)) => {
                self.stopped(reason);
                false
            }
            Err(e) => {
                let group = &*self.shared.group;
                tracing::error!(group, error = %e, "a delivery ended abnormally: it comes again");
                true
            }
        }
    }
}

/// Waits until it is told so.
async fn told(flag: &mut watch::Receiver<bool>) {
    // Who can't be told any more is told.
    let _ = flag.wait_for(|told| *told).await;
}

type Ended = Result<After, tokio::task::JoinError>;
