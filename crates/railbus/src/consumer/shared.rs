//! What the deliveries of a member share: how it is told to stop, and where they run.

use super::{
    able::Able,
    entry::{Fallback, Matching},
    leases::Leases,
    left::Left,
    pace::Pace,
    settler::Settler,
};
use crate::{
    backend::Source,
    error::{Error, ErrorKind},
    instrument::Counters,
};
use futures_util::FutureExt;
use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What every delivery of a group shares.
pub(super) struct Shared {
    pub(super) group: Arc<str>,
    pub(super) matching: Matching,
    pub(super) policy: Fallback,
    pub(super) source: Arc<dyn Source>,
    pub(super) settler: Settler,
    pub(super) leases: Leases,
    pub(super) able: Able,
    pub(super) left: Arc<Left>,
    pub(super) draining: watch::Sender<bool>,
    pub(super) failed: watch::Sender<Option<Error>>,
    pub(super) pace: Pace,
    pub(super) counters: Arc<Counters>,
    // Deliveries under way, each in a task that ends at its next await when told to.
    tasks: TaskTracker,
    aborting: CancellationToken,
    // Settlements of batches, which nothing cuts short.
    settling: TaskTracker,
}

/// What a member of a group is made of.
pub(super) struct Parts {
    pub(super) group: Arc<str>,
    pub(super) matching: Matching,
    pub(super) policy: Fallback,
    pub(super) source: Arc<dyn Source>,
    pub(super) able: Able,
    pub(super) left: Arc<Left>,
    pub(super) counters: Arc<Counters>,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { group, matching, policy, source, able, left, counters } = parts;
        let settler = Settler::start(Arc::clone(&source));
        Self {
            group,
            matching,
            policy,
            source,
            settler,
            leases: Leases::default(),
            able,
            left,
            draining: watch::Sender::new(false),
            failed: watch::Sender::new(None),
            pace: Pace::default(),
            counters,
            tasks: TaskTracker::new(),
            aborting: CancellationToken::new(),
            settling: TaskTracker::new(),
        }
    }

    /// Tells whether nothing new may start.
    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Stops fetching; what has not begun is given back, what runs goes on.
    pub(super) fn stop(&self) {
        self.draining.send_replace(true);
        self.source.stop();
    }

    /// Stops for good.
    pub(super) fn fail(&self, error: Error) {
        tracing::error!(group = &*self.group, %error, "the group stops");
        self.stop();
        self.failed.send_replace(Some(error));
    }

    /// Stops because a policy said so.
    pub(super) fn fail_by_policy(&self, reason: String) {
        let why = "the failure policy said stop";
        let error = Error::new(ErrorKind::Handler, "consume", why);
        self.fail(error.with("group", &self.group).with("reason", reason));
    }

    /// Gives deliveries a task of their own.
    pub(super) fn spawn(self: &Arc<Self>, deliveries: impl Future<Output = ()> + Send + 'static) {
        let (shared, aborted) = (Arc::clone(self), self.aborting.clone());
        self.tasks.spawn(async move {
            let deliveries = AssertUnwindSafe(deliveries).catch_unwind();
            if let Some(Err(_)) = aborted.run_until_cancelled(deliveries).await {
                let group = &*shared.group;
                tracing::error!(group, "a delivery ended abnormally: it comes again");
            }
        });
    }

    /// Settles in a task that nothing cuts short.
    pub(super) fn spawn_settling(&self, settling: impl Future<Output = ()> + Send + 'static) {
        self.settling.spawn(settling);
    }

    /// Waits until nothing is under way any more; nothing new may begin.
    pub(super) async fn through(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.settling.close();
        self.settling.wait().await;
    }

    /// Ends what is under way at its next await.
    pub(super) fn abort(&self) {
        self.aborting.cancel();
    }
}
