//! A member of a group: fetches what it has room for, runs it, drains.

use super::{
    able::Able,
    batch::Batch,
    credits::Credits,
    entry::{Fallback, Matching},
    leaving::release,
    pull::{Pull, Pulling},
    shared::{Parts, Shared},
    watch::Watch,
    work::work,
};
use crate::{
    backend::{Leased, Receipt, Source},
    error::{Error, ErrorKind},
    instrument::Counters,
};
use futures_util::{FutureExt, future::join_all};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, timeout},
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
    pub(crate) able: Able,
    pub(crate) limit: usize,
    pub(crate) pull: Pull,
    pub(crate) credits: Credits,
    pub(crate) counters: Arc<Counters>,
}

/// A member of a group at work.
pub(crate) struct Group {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    // How many deliveries may run at once, and the room for them.
    limit: usize,
    room: Arc<Semaphore>,
    // Kept here while it is waited for, so that a wait that is cut short can begin anew.
    fetching: Mutex<Option<JoinHandle<()>>>,
}

impl Group {
    /// Starts a member; the one before it, which finishes what it holds, shares its room with it,
    /// so that both together keep the limit, and what it knows of events that were left to others.
    pub(crate) fn start(start: Start, before: Option<&Self>) -> Self {
        let Start { group, source, matching, policy, able, limit, pull, credits, counters } = start;
        let limit = limit.min(Semaphore::MAX_PERMITS);
        let room = before.map_or_else(|| Arc::new(Semaphore::new(limit)), |b| b.room_for(limit));
        let left = before.map(|before| Arc::clone(&before.shared.left)).unwrap_or_default();
        let shared =
            Arc::new(Shared::new(Parts { group, matching, policy, source, able, left, counters }));
        let watch = Arc::<Watch>::default();
        // Tasks of their own: deliveries must not hold them up.
        let renewing = shared.leases.clone().renew(shared.settler.clone(), able.lease());
        let renewing = able.extends().then(|| AbortOnDropHandle::new(tokio::spawn(renewing)));
        let watched = Arc::clone(&watch);
        let watching = tokio::spawn(async move { watched.run().await });
        let beside = (renewing, AbortOnDropHandle::new(watching));
        let (of, from) = (Arc::clone(&shared), Arc::clone(&room));
        let fetching =
            Fetching { shared: Arc::clone(&of), watch: Arc::clone(&watch), pull, credits };
        let fetching = tokio::spawn(async move {
            if AssertUnwindSafe(fetching.run(&from)).catch_unwind().await.is_err() {
                let why = "fetching panicked";
                of.fail(Error::new(ErrorKind::Internal, "consume", why).with("group", &of.group));
            }
            // Leases are kept for as long as something runs.
            of.through().await;
            drop(beside);
        });
        Self { shared, watch, limit, room, fetching: Mutex::new(Some(fetching)) }
    }

    /// Returns the room of this member, made as large as the limit of the next one.
    fn room_for(&self, limit: usize) -> Arc<Semaphore> {
        let room = Arc::clone(&self.room);
        if limit > self.limit {
            room.add_permits(limit - self.limit);
        }
        let surplus = self.limit.saturating_sub(limit);
        let left = surplus - room.forget_permits(surplus);
        if let Ok(left @ 1..) = u32::try_from(left) {
            // As soon as what runs makes room.
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                if let Ok(permits) = room.acquire_many(left).await {
                    permits.forget();
                }
            });
        }
        room
    }

    /// Returns what ended the group by itself, now or later.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<Error>> {
        self.shared.failed.subscribe()
    }

    /// Stops fetching; what runs goes on.
    pub(crate) fn stop(&self) {
        self.shared.stop();
    }

    /// Tells whether nothing runs any more, and nothing will.
    pub(crate) fn is_over(&self) -> bool {
        match self.fetching.try_lock() {
            Ok(fetching) => fetching.as_ref().is_none_or(JoinHandle::is_finished),
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
        let mut fetching = self.fetching.lock().await;
        if let Some(handle) = fetching.as_mut()
            && timeout(deadline, &mut *handle).await.is_err()
        {
            // What is through is settled, whatever it shares a batch with.
            self.watch.relieve_all();
            let held = self.shared.leases.all();
            self.shared.abort();
            // What is aborted ends at its next await; one that never comes there can't be helped.
            let _ = timeout(GRACE, &mut *handle).await;
            self.give_back(held).await;
        }
        *fetching = None;
        let _ = self.shared.source.close().await;
    }

    /// Gives back, all at once, what was under way at the deadline. What settled itself since is
    /// refused as stale, which is as well.
    async fn give_back(&self, held: Vec<Receipt>) {
        let releases = held.into_iter().map(|receipt| self.shared.settler.settle(release(receipt)));
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
    watch: Arc<Watch>,
    pull: Pull,
    credits: Credits,
}

impl Fetching {
    /// Fetches as much as there is room for until stopped.
    async fn run(&self, room: &Arc<Semaphore>) {
        let (mut failures, mut pulling) = (0, Pulling::new(self.pull));
        while pulling.pause(&self.shared).await {
            let Some(permit) = self.next_room(room).await else { return };
            let most = pulling.most(1 + room.available_permits());
            let Some(mut taken) = self.credits.take(&self.shared, most).await else { return };
            pulling.begin(taken.most());
            let fetched = self.shared.source.fetch(taken.most()).await;
            taken.came(fetched.as_ref().map_or(0, Vec::len));
            drop(taken);
            match fetched {
                Ok(leased) if leased.is_empty() => return,
                Ok(leased) => {
                    failures = 0;
                    pulling.got(leased.len());
                    self.begin(room, permit, leased);
                }
                Err(e) if e.kind() == ErrorKind::Closed => return,
                Err(e) if !e.is_retryable() => return self.shared.fail(e),
                Err(error) => {
                    let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
                    failures += 1;
                    let group = &*self.shared.group;
                    tracing::warn!(group, %error, again_in = ?wait, "fetching failed");
                    let mut draining = self.shared.draining.subscribe();
                    let _ = timeout(wait, draining.wait_for(|d| *d)).await;
                }
            }
        }
    }

    /// Waits for room for one more delivery; none once the group stops.
    async fn next_room(&self, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let mut draining = self.shared.draining.subscribe();
        tokio::select! {
            biased;
            _ = draining.wait_for(|draining| *draining) => None,
            permit = Arc::clone(room).acquire_owned() => permit.ok(),
        }
    }

    /// Runs deliveries in one task if they are quick, and in tasks of their own if not.
    fn begin(&self, room: &Arc<Semaphore>, permit: OwnedSemaphorePermit, leased: Vec<Leased>) {
        let (shared, mut permit, mut leased) = (&self.shared, permit, leased);
        // From the answer on: what waits for its turn gets no more time for it.
        let until = shared.able.most().map(|most| Instant::now() + most);
        let more = u32::try_from(leased.len() - permit.num_permits()).unwrap_or(u32::MAX);
        if let Ok(more) = Arc::clone(room).try_acquire_many_owned(more) {
            permit.merge(more);
        }
        while permit.num_permits() < leased.len() {
            match Arc::clone(room).try_acquire_owned() {
                Ok(more) => permit.merge(more),
                Err(_) => break,
            }
        }
        // A source that gave more than it was asked for, or one before this that took some room.
        for surplus in leased.drain(permit.num_permits().min(leased.len())..) {
            let (shared, release) = (Arc::clone(shared), release(surplus.receipt));
            self.shared.spawn(async move { drop(shared.settler.settle(release).await) });
        }
        if shared.pace.is_quick() {
            let batch = Arc::new(Batch::new(shared, leased, until, permit));
            self.watch.add(&batch);
            return shared.spawn(batch.run());
        }
        // Held from here on: what waits for its turn is renewed, and given back if all is aborted.
        let held =
            leased.into_iter().map(|leased| (shared.leases.hold([leased.receipt.clone()]), leased));
        for (held, leased) in held.collect::<Vec<_>>() {
            let (of, room) = (Arc::clone(shared), permit.split(1));
            shared.spawn(async move {
                work(&of, leased, until, held).await;
                drop(room);
            });
        }
    }
}
