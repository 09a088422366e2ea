//! Broadcasts as they come from a backend: those of one topic one after another, each topic by
//! itself, so that a handler that takes its time holds up its own topic alone, as long as no more
//! wait for it than a lane takes.
//!
//! There is one place from which a backend is read for all topics. So once a lane is full, or all
//! together, a backend that keeps its events is read no further, and every topic waits until there is
//! room; of one that keeps nothing what comes for the full lane is dropped.

use super::open::{Bus, Inner};
use crate::{event::Event, task::poll_once};
use futures_util::{FutureExt, future::BoxFuture};
use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};
use tokio::sync::Notify;

/// How many events of one topic wait for their turn, and how many of all together are under way.
const OF_ONE: usize = 1024;
const OF_ALL: usize = 4_096;

/// The topics whose handlers take their time.
#[derive(Clone)]
pub(super) struct Lanes(Arc<Shared>);

struct Shared {
    // Weak: who listens must not keep the bus alive.
    inner: Weak<Inner>,
    // Whether the backend keeps what is not taken yet: then nothing need be dropped.
    waits: bool,
    // How many events the subscriptions are through with, or do without.
    heard: Arc<AtomicU64>,
    state: Mutex<State>,
    room: Notify,
}

#[derive(Default)]
struct State {
    busy: HashMap<String, VecDeque<Event>>,
    under_way: usize,
    // Since it was last told.
    dropped: u64,
    // Whether it was told that others are held up, since that began.
    told_full: bool,
}

/// What became of an event that came to a busy topic, or did not.
enum Turn {
    Now(Event),
    Waits,
    Full(Event),
}

impl Lanes {
    pub(super) fn new(inner: Weak<Inner>, waits: bool, heard: Arc<AtomicU64>) -> Self {
        let state = Mutex::default();
        Self(Arc::new(Shared { inner, waits, heard, state, room: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an event to the subscriptions here. Returns when they are through with it, or will
    /// be without being waited for.
    pub(super) async fn hand_on(&self, mut event: Event) {
        if let Some(inner) = self.0.inner.upgrade() {
            inner.early.tell(&event);
        }
        let event = loop {
            let room = self.0.room.notified();
            match self.turn(event) {
                Turn::Waits => return,
                Turn::Now(event) => break event,
                Turn::Full(back) => {
                    self.tell_full(&back);
                    event = back;
                }
            }
            room.await;
        };
        let topic = event.topic().to_owned();
        let Some(mut running) = self.run(event) else { return };
        // Mostly it is quick, and needs no task.
        if poll_once(running.as_mut()).await.is_ready() {
            return;
        }
        let Some(inner) = self.0.inner.upgrade() else { return };
        let mut state = self.lock();
        state.busy.insert(topic.clone(), VecDeque::new());
        state.under_way += 1;
        drop(state);
        let lanes = self.clone();
        inner.tasks.spawn(inner.bounded(async move { lanes.drive(topic, running).await }));
    }

    /// Tells once that all topics wait, until nothing holds them up any more.
    fn tell_full(&self, event: &Event) {
        if std::mem::replace(&mut self.lock().told_full, true) {
            return;
        }
        let topic = event.topic();
        tracing::warn!(topic, "a topic's handlers are too slow: the broadcasts of all topics wait");
    }

    /// Says whose turn it is.
    fn turn(&self, event: Event) -> Turn {
        let mut state = self.lock();
        if state.under_way >= OF_ALL {
            return Turn::Full(event);
        }
        let Some(waiting) = state.busy.get_mut(event.topic()) else { return Turn::Now(event) };
        if waiting.len() < OF_ONE {
            waiting.push_back(event);
            state.under_way += 1;
            return Turn::Waits;
        }
        if self.0.waits {
            return Turn::Full(event);
        }
        state.dropped += 1;
        // Told once in a while: it comes in crowds.
        let tells = state.dropped.is_power_of_two().then_some(state.dropped);
        drop(state);
        if let Some(inner) = self.0.inner.upgrade() {
            inner.counters.broadcasts.dropped.one();
            self.0.heard.fetch_add(1, SeqCst);
            // Whoever keeps what events tell of must not go on with it.
            inner.gaps.fetch_add(1, SeqCst);
        }
        if let Some(dropped) = tells {
            let topic = event.topic();
            tracing::warn!(
                topic,
                dropped,
                "a topic's handlers are too slow: broadcasts are dropped"
            );
        }
        Turn::Waits
    }

    fn run(&self, event: Event) -> Option<BoxFuture<'static, ()>> {
        let inner = self.0.inner.upgrade().filter(|inner| !inner.is_closed())?;
        let heard = Arc::clone(&self.0.heard);
        Some(Box::pin(async move {
            let bus = Bus(inner);
            let now = bus.0.table.now();
            // Only what is dropped can still panic here; those behind must not wait for ever.
            if AssertUnwindSafe(bus.dispatch(&now, &event)).catch_unwind().await.is_err() {
                tracing::error!(event_id = event.id(), "a dispatch ended abnormally");
            }
            heard.fetch_add(1, SeqCst);
        }))
    }

    /// Goes on with a topic until nothing of it waits.
    async fn drive(self, topic: String, first: BoxFuture<'static, ()>) {
        let mut running = Some(first);
        while let Some(run) = running.take() {
            run.await;
            let next = {
                let mut state = self.lock();
                state.under_way -= 1;
                let next = state.busy.get_mut(&topic).and_then(VecDeque::pop_front);
                if next.is_none() {
                    state.busy.remove(&topic);
                    (state.dropped, state.told_full) = (0, false);
                }
                next
            };
            self.0.room.notify_waiters();
            running = next.and_then(|event| self.run(event));
        }
    }
}
