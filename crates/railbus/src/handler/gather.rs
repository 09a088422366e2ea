//! Gathering events for a handler that takes many at once.
//!
//! Each delivery waits here for the outcome of its own, with all that a delivery has around it: its
//! lease is kept, its policy decides what follows, and who gives it up lets go of it here as well.

use super::{
    call::{Call, World},
    contract::Called,
    erased::AnyHandler,
};
use crate::{
    context::{self, Delivering},
    delivery::{Delivery, Items, Outcome, Pending, contained, undecided},
    error::{Error, ErrorKind, Result},
    sync::{Mutex, MutexGuard},
    task,
};
use futures_util::{FutureExt, future::join_all};
use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::Semaphore, sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;

/// How many events a batch takes, and how long it waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) max: usize,
    pub(crate) linger: Duration,
}

/// A handler of batches, as a handler of one event after another.
pub(crate) struct Gathered(Arc<Gathering>);

struct Gathering {
    handler: Box<dyn AnyHandler>,
    size: Size,
    // In a group a delivery lasts until it is decided. A broadcast goes on; its outcome is told later.
    lasts: bool,
    // What of broadcasts is not decided: who publishes waits for room.
    room: Arc<Semaphore>,
    // Told when nothing more is worth waiting for.
    closing: CancellationToken,
    runtime: OnceLock<Handle>,
    open: Mutex<Open>,
}

/// The batch that is being gathered.
#[derive(Default)]
struct Open {
    number: u64,
    waiting: Vec<Waiting>,
    filled: Option<oneshot::Sender<Vec<Waiting>>>,
}

struct Waiting {
    delivery: Delivery,
    decided: oneshot::Sender<Outcome>,
}

impl Gathered {
    /// Gathers events for a handler if they are to be; if not, it stays as it is.
    pub(crate) fn around(
        handler: Box<dyn AnyHandler>,
        size: Option<Size>,
        lasts: bool,
        closing: &CancellationToken,
    ) -> Box<dyn AnyHandler> {
        let Some(size) = size else { return handler };
        Box::new(Self(Arc::new(Gathering {
            handler,
            size,
            lasts,
            room: Arc::new(Semaphore::new(size.max.saturating_mul(2).min(Semaphore::MAX_PERMITS))),
            closing: closing.clone(),
            runtime: OnceLock::new(),
            open: Mutex::default(),
        })))
    }
}

impl AnyHandler for Gathered {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        let (gathering, delivery, world) = (&self.0, call.delivery(), call.world());
        if gathering.lasts {
            let decided = gathering.hand(delivery, world);
            return Called::Later(Box::pin(async {
                decided.await.unwrap_or_else(|_| undecided())
            }));
        }
        let room = Arc::clone(&gathering.room);
        if let Ok(room) = room.clone().try_acquire_owned() {
            let decided = gathering.hand(delivery, world);
            return Called::Now(Outcome::Pending(Pending::new(decided, room)));
        }
        if context::depth() > 1 {
            // The handler around this one may be the batch that is waited for.
            let why = "a batch has no room, and inside a handler publish does not wait for it";
            let error = Error::new(ErrorKind::Overloaded, "publish", why);
            return Called::Now(Outcome::Failed(Box::new(error)));
        }
        Called::Later(Box::pin(async move {
            let Ok(room) = room.acquire_owned().await else { return undecided() };
            Outcome::Pending(Pending::new(gathering.hand(delivery, world), room))
        }))
    }

    fn is_async(&self) -> bool {
        true
    }

    fn is_manual(&self) -> bool {
        self.0.handler.is_manual()
    }

    fn is_batch(&self) -> bool {
        self.0.handler.is_batch()
    }

    fn replies(&self) -> bool {
        // An item may, whatever the handler returns.
        self.0.lasts
    }

    fn check(&self, world: &World) -> Result<()> {
        // Where batches run, and their clock.
        drop(task::sleep("subscribe", Duration::ZERO)?);
        let _ = self.0.runtime.set(task::runtime("subscribe")?);
        self.0.handler.check(world)
    }
}

impl Gathering {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a delivery into the batch; returns where its outcome will come.
    fn hand(self: &Arc<Self>, delivery: Delivery, world: &World) -> oneshot::Receiver<Outcome> {
        let (decided, outcome) = oneshot::channel();
        let mut open = self.lock();
        open.waiting.push(Waiting { delivery, decided });
        if open.waiting.len() == 1 {
            open.number += 1;
            let (fill, filled) = oneshot::channel();
            open.filled = Some(fill);
            if let Some(runtime) = self.runtime.get() {
                let gather = Arc::clone(self).gather(open.number, filled, world.clone());
                runtime.spawn(gather);
            }
        }
        if open.waiting.len() >= self.size.max {
            let full = mem::take(&mut open.waiting);
            // Who gathers is there, unless its runtime is gone with all that waits.
            drop(open.filled.take().map(|fill| fill.send(full)));
        }
        outcome
    }

    /// Gathers one batch and has it handled.
    async fn gather(
        self: Arc<Self>,
        number: u64,
        mut filled: oneshot::Receiver<Vec<Waiting>>,
        world: World,
    ) {
        let waiting = tokio::select! {
            biased;
            full = &mut filled => full.ok(),
            () = sleep(self.size.linger) => self.take(number),
            () = self.closing.cancelled() => self.take(number),
        };
        let waiting = match waiting {
            Some(waiting) => waiting,
            // It was filled at that moment.
            None => filled.await.unwrap_or_default(),
        };
        self.handle(waiting, &world).await;
    }

    /// Takes the batch of that number, if it is still open.
    fn take(&self, number: u64) -> Option<Vec<Waiting>> {
        let mut open = self.lock();
        let is_open = open.number == number && !open.waiting.is_empty();
        is_open.then(|| mem::take(&mut open.waiting))
    }

    /// Calls the handler with a batch and tells each delivery what became of it. Where nobody waits
    /// for any of them any more, the handler is dropped.
    async fn handle(&self, mut waiting: Vec<Waiting>, world: &World) {
        waiting.retain(|one| !one.decided.is_closed());
        if waiting.is_empty() {
            return;
        }
        let (deliveries, mut decided): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|one| (one.delivery, one.decided)).unzip();
        let items = Items::new(deliveries);
        let event = items.stand_in();
        let call = AssertUnwindSafe(|| self.handler.call(Call::of_batch(&event, &items, world)));
        let outcome = match context::deliver(&event, true, || catch_unwind(call)) {
            Ok(Called::Now(outcome)) => outcome,
            Ok(Called::Later(running)) => {
                let running = AssertUnwindSafe(running).catch_unwind();
                let given_up = join_all(decided.iter_mut().map(oneshot::Sender::closed));
                tokio::select! {
                    biased;
                    ended = Delivering::new(&event, running) => {
                        ended.unwrap_or_else(|panic| contained("panicked", panic))
                    }
                    _ = given_up => return,
                }
            }
            Err(panic) => contained("panicked", panic),
        };
        for (decided, outcome) in decided.into_iter().zip(items.end(outcome)) {
            // Who has given up its delivery need not be told.
            drop(decided.send(outcome));
        }
    }
}
