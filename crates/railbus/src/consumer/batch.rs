//! Running a batch of deliveries where it was fetched, as long as its handlers are quick.

use super::{
    leases::Held,
    settler::settle_all,
    work::{After, Begun, Round, Shared, Work, begin, tell},
};
use crate::{
    backend::{Leased, Receipt, Settle, Verdict},
    event::Event,
};
use futures_util::FutureExt;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
    vec,
};
use tokio::{sync::OwnedSemaphorePermit, task::JoinSet};

/// How often the clock is looked at, once it was looked at after 1, 2, 4 and 8 deliveries.
const LOOK_EVERY: u32 = 16;

/// A batch under way. What is through is settled with one call at its end.
pub(super) struct Batch<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) tasks: &'a mut JoinSet<After>,
    // Room for all of them; who leaves the batch takes its part along.
    pub(super) room: OwnedSemaphorePermit,
    pub(super) held: Held,
    pub(super) settles: Vec<Settle>,
    // What the settlements are of, to be named if they fail.
    pub(super) events: Vec<Option<Event>>,
}

impl Batch<'_> {
    /// Runs deliveries until one is not quick; the rest stays in `leased`. False if the group must
    /// stop, for the reason.
    pub(super) async fn run(&mut self, leased: &mut vec::IntoIter<Leased>) -> Result<(), String> {
        let (mut since, mut count, mut look) = (Instant::now(), 0, 1);
        for leased in leased.by_ref() {
            // Others on this thread get their turn in between.
            tokio::task::coop::consume_budget().await;
            match self.one(leased).await {
                Ran::Here => count += 1,
                Ran::Left => return Ok(()),
                Ran::Stop(reason) => return Err(reason),
            }
            if count == look {
                let now = Instant::now();
                if !self.shared.pace.note(now - since, count) {
                    return Ok(());
                }
                (since, count, look) = (now, 0, (look * 2).min(LOOK_EVERY));
            }
        }
        Ok(())
    }

    async fn one(&mut self, leased: Leased) -> Ran {
        let shared = self.shared;
        if shared.is_draining() {
            let release = Verdict::Release { delay: Duration::ZERO };
            self.settle(Settle::new(leased.receipt, release), None);
            return Ran::Here;
        }
        let mut work = match begin(shared, leased) {
            Begun::Run(work) => work,
            Begun::Settled(settle) => {
                self.settle(settle, None);
                return Ran::Here;
            }
            Begun::Stop(reason) => {
                shared.source.stop();
                return Ran::Stop(reason);
            }
        };
        if work.is_sync() {
            let Some(round) = work.round(shared).now_or_never() else {
                // It said that it never waits, and waits: nobody polls it any more.
                let release = Verdict::Release { delay: Duration::ZERO };
                self.settle(Settle::new(work.receipt().clone(), release), None);
                return Ran::Here;
            };
            return self.after(work, round);
        }
        let (receipt, of) = (work.receipt().clone(), Arc::clone(shared));
        let mut running = Box::pin(async move {
            let round = work.round(&of).await;
            (work, round)
        });
        match poll_once(running.as_mut()).await {
            Poll::Ready((work, round)) => self.after(work, round),
            Poll::Pending => {
                self.leave(&receipt, |shared, held| async move {
                    let (work, round) = running.await;
                    work.go_on(&shared, round, held).await
                });
                shared.pace.waits();
                Ran::Left
            }
        }
    }

    /// Settles with the batch what is through; what is not goes on by itself.
    fn after(&mut self, mut work: Work, round: Round) -> Ran {
        if let Round::Through = round {
            let settle = work.through();
            self.settle(settle, Some(work.into_event()));
            return Ran::Here;
        }
        let receipt = work.receipt().clone();
        let rest =
            |shared: Arc<Shared>, held| async move { work.go_on(&shared, round, held).await };
        self.leave(&receipt, rest);
        Ran::Here
    }

    fn settle(&mut self, settle: Settle, event: Option<Event>) {
        self.settles.push(settle);
        self.events.push(event);
    }

    /// Gives a delivery a task of its own.
    pub(super) fn leave<F>(&mut self, receipt: &Receipt, rest: impl FnOnce(Arc<Shared>, Held) -> F)
    where
        F: Future<Output = After> + Send + 'static,
    {
        let (held, room) = (self.held.part(receipt), self.room.split(1));
        let rest = rest(Arc::clone(self.shared), held);
        self.tasks.spawn(async move {
            let after = rest.await;
            drop(room);
            after
        });
    }

    /// Settles what is through; where that takes its time, in a task.
    pub(super) async fn end(self) {
        let Self { shared, tasks, room, held, settles, events } = self;
        // No renewal may overtake the end.
        drop(held);
        if settles.is_empty() {
            return;
        }
        let of = Arc::clone(shared);
        let mut settling = Box::pin(async move {
            let told = |at: usize, result| {
                tell(&of, events.get(at).and_then(Option::as_ref), result);
            };
            settle_all(&*of.source, settles, told).await;
            drop(room);
            After::GoOn
        });
        if poll_once(settling.as_mut()).await.is_pending() {
            tasks.spawn(settling);
        }
    }
}

/// What became of a delivery that was run in its batch.
enum Ran {
    /// It ran here, or goes on by itself after a wait.
    Here,
    /// It waits for something, in a task of its own.
    Left,
    /// The group must stop, for this reason.
    Stop(String),
}

/// Polls a future once, to be woken as this task is.
async fn poll_once<F: Future + ?Sized>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}
