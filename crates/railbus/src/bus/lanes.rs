//! Broadcasts that a backend brought, handed on to the subscriptions here.

use super::open::{Bus, Inner};
use crate::{event::Event, task::poll_once};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering::SeqCst},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many events may wait for handlers, or for those before them: then no more are fetched.
const WAITING_MAX: usize = 1_000;

/// Lanes, one a topic. Events of one topic are handled one after another, as they came. A handler
/// that waits for something holds up its own topic, and no other.
pub(super) struct Lanes {
    inner: Weak<Inner>,
    room: Arc<Semaphore>,
    // The topics with a handler that waits, and what came behind it.
    busy: Arc<Mutex<HashMap<String, VecDeque<Waiting>>>>,
}

struct Waiting {
    event: Event,
    _room: OwnedSemaphorePermit,
}

impl Lanes {
    pub(super) fn new(inner: Weak<Inner>) -> Self {
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Self { inner, room, busy: Arc::default() }
    }

    /// Hands an event on, and returns as soon as another one may follow.
    pub(super) async fn hand_on(&self, event: Event) {
        // It is never closed.
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return };
        if let Some(behind) = lock(&self.busy).get_mut(event.topic()) {
            return behind.push_back(Waiting { event, _room: room });
        }
        let topic = event.topic().to_owned();
        let mut handling: BoxFuture<'static, ()> = Box::pin(handle(self.inner.clone(), event));
        // Most handlers wait for nothing: then there is no lane to open.
        if poll_once(handling.as_mut()).await.is_ready() {
            return;
        }
        let Some(inner) = self.inner.upgrade() else { return };
        lock(&self.busy).insert(topic.clone(), VecDeque::new());
        let (of, busy) = (self.inner.clone(), Arc::clone(&self.busy));
        inner.tasks.spawn(inner.bounded(async move {
            handling.await;
            drop(room);
            while let Some(next) = next(&busy, &topic) {
                handle(of.clone(), next.event).await;
            }
        }));
    }
}

type Busy = HashMap<String, VecDeque<Waiting>>;

fn lock(busy: &Mutex<Busy>) -> MutexGuard<'_, Busy> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what waits in a lane; where nothing does, the lane ends.
fn next(busy: &Mutex<Busy>, topic: &str) -> Option<Waiting> {
    let mut busy = lock(busy);
    let next = busy.get_mut(topic).and_then(VecDeque::pop_front);
    if next.is_none() {
        busy.remove(topic);
    }
    next
}

/// Runs the subscriptions that want an event.
async fn handle(inner: Weak<Inner>, event: Event) {
    let Some(inner) = inner.upgrade().filter(|inner| !inner.is_closed()) else { return };
    let bus = Bus(Arc::clone(&inner));
    let now = inner.table.now();
    // Only what is dropped can still panic here; those behind must not wait for it for ever.
    if AssertUnwindSafe(bus.dispatch(&now, &event)).catch_unwind().await.is_err() {
        tracing::error!(event_id = event.id(), "a dispatch ended abnormally");
    }
    inner.heard.fetch_add(1, SeqCst);
}
