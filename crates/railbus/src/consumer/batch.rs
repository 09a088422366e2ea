//! Running a batch of deliveries one after another in one task, as long as its handlers are quick.
//!
//! What has not begun and what is through but not yet settled stand where others reach them: a
//! handler that takes its time holds up neither, since after [`PATIENCE`] the former get tasks of
//! their own and the latter are settled.

use super::{
    leases::Held,
    leaving::{leave_to_others, release, tell},
    settler::settle_all,
    shared::Shared,
    work::{Begun, Round, Work, begin, work},
};
use crate::{
    backend::{Leased, Receipt, Settle},
    event::Event,
    task::poll_once,
};
use futures_util::FutureExt;
use std::{
    future::Future,
    mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
    vec,
};
use tokio::{sync::OwnedSemaphorePermit, task::coop, time::Instant};

/// How long a batch may take before what it holds up is taken from it.
pub(super) const PATIENCE: Duration = Duration::from_millis(5);

/// How often the clock is looked at, once it was looked at after 1, 2, 4 and 8 deliveries.
const LOOK_EVERY: u32 = 16;

/// A batch under way.
pub(super) struct Batch {
    shared: Arc<Shared>,
    began: Instant,
    // From when on others may have its events, where leases can't be kept.
    until: Option<Instant>,
    held: Held,
    state: Mutex<State>,
}

struct State {
    rest: vec::IntoIter<Leased>,
    // What is through, and the events of that, to be named if settling fails.
    settles: Vec<Settle>,
    events: Vec<Option<Event>>,
    // Room for all of them; who leaves the batch takes its part along.
    room: OwnedSemaphorePermit,
}

impl Batch {
    pub(super) fn new(
        shared: &Arc<Shared>,
        leased: Vec<Leased>,
        until: Option<Instant>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        let held = shared.leases.hold(leased.iter().map(|l| l.receipt.clone()));
        let (settles, events) =
            (Vec::with_capacity(leased.len()), Vec::with_capacity(leased.len()));
        let state = State { rest: leased.into_iter(), settles, events, room };
        let (shared, began, state) = (Arc::clone(shared), Instant::now(), Mutex::new(state));
        Self { shared, began, until, held, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether it takes longer than quick handlers do.
    pub(super) fn is_overdue(&self) -> bool {
        self.began.elapsed() >= PATIENCE
    }

    /// Runs what has not begun until one is not quick, which leaves the rest to tasks of its own;
    /// then settles what is through.
    pub(super) async fn run(self: Arc<Self>) {
        let pace = &self.shared.pace;
        let (mut since, mut count, mut look) = (Instant::now(), 0, 1);
        loop {
            // Others on this thread get their turn in between.
            coop::consume_budget().await;
            let Some(leased) = self.lock().rest.next() else { break };
            // Only what is dropped can still panic here: then the event comes again, it alone.
            if AssertUnwindSafe(self.one(leased)).catch_unwind().await.is_err() {
                let group = &*self.shared.group;
                tracing::error!(group, "a delivery ended abnormally: it comes again");
            }
            count += 1;
            if count == look {
                let now = Instant::now();
                if !pace.note(now - since, count) {
                    self.relieve();
                    break;
                }
                (since, count, look) = (now, 0, (look * 2).min(LOOK_EVERY));
            }
            if !pace.is_quick() {
                self.relieve();
                break;
            }
        }
        self.settle().await;
    }

    /// Runs one delivery here; if it waits for something, it goes on in a task of its own.
    async fn one(&self, leased: Leased) {
        let shared = &self.shared;
        let mut work = match begin(shared, leased, self.until) {
            Begun::Run(work) => work,
            Begun::Settled(settle) => return self.note(settle, None),
            Begun::Unrouted(settle, wait) => {
                let receipt = settle.receipt.clone();
                return self.leave(&receipt, |shared, held| async move {
                    leave_to_others(&shared, settle, wait, held).await;
                });
            }
            Begun::Stop(reason) => return shared.fail_by_policy(reason),
        };
        if work.is_sync() {
            return match work.round(shared).now_or_never() {
                Some(round) => self.after(work, round),
                // Its handlers never wait: that one does would be told as its failure.
                None => self.note(release(work.receipt().clone()), None),
            };
        }
        let (receipt, of) = (work.receipt().clone(), Arc::clone(shared));
        let mut running = Box::pin(async move {
            let round = work.round(&of).await;
            (work, round)
        });
        match poll_once(running.as_mut()).await {
            Poll::Ready((work, round)) => self.after(work, round),
            Poll::Pending => {
                shared.pace.waits();
                self.leave(&receipt, |shared, held| async move {
                    let (work, round) = running.await;
                    work.go_on(&shared, round, held).await;
                });
            }
        }
    }

    /// Notes what is through; what is not goes on by itself.
    fn after(&self, mut work: Work, round: Round) {
        if let Round::Through = round
            && work.is_plain()
        {
            let settle = work.through();
            return self.note(settle, Some(work.into_event()));
        }
        if let Round::Stop(_) = round {
            // At once: nothing more of the batch may begin.
            self.shared.stop();
        }
        let receipt = work.receipt().clone();
        let rest =
            |shared: Arc<Shared>, held| async move { work.go_on(&shared, round, held).await };
        self.leave(&receipt, rest);
    }

    fn note(&self, settle: Settle, event: Option<Event>) {
        let mut state = self.lock();
        state.settles.push(settle);
        state.events.push(event);
    }

    /// Gives a delivery a task of its own.
    fn leave<F>(&self, receipt: &Receipt, rest: impl FnOnce(Arc<Shared>, Held) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let room = self.lock().room.split(1);
        let rest = rest(Arc::clone(&self.shared), self.held.part(receipt));
        self.shared.spawn(async move {
            rest.await;
            drop(room);
        });
    }

    /// Gives tasks of their own to those that have not begun, and settles what is through.
    pub(super) fn relieve(&self) {
        let (rest, until) = (mem::take(&mut self.lock().rest), self.until);
        for leased in rest {
            let receipt = leased.receipt.clone();
            let working =
                |shared: Arc<Shared>, held| async move { work(&shared, leased, until, held).await };
            self.leave(&receipt, working);
        }
        if let Some(settling) = self.settling() {
            self.shared.spawn_settling(settling);
        }
    }

    /// Settles what is through; where that takes its time, in a task.
    async fn settle(&self) {
        let Some(settling) = self.settling() else { return };
        let mut settling = Box::pin(settling);
        if poll_once(settling.as_mut()).await.is_pending() {
            self.shared.spawn_settling(settling);
        }
    }

    /// Takes out what is through, to be settled.
    fn settling(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let mut state = self.lock();
        if state.settles.is_empty() {
            return None;
        }
        let (settles, events) = (mem::take(&mut state.settles), mem::take(&mut state.events));
        let room = state.room.split(settles.len());
        drop(state);
        let ended: Vec<_> = settles.iter().map(|settle| settle.receipt.clone()).collect();
        // No renewal may overtake the end.
        self.held.end(&ended);
        let shared = Arc::clone(&self.shared);
        Some(async move {
            let told = |at: usize, result| {
                tell(&shared, events.get(at).and_then(Option::as_ref), result);
            };
            settle_all(&*shared.source, settles, told).await;
            drop(room);
        })
    }
}
