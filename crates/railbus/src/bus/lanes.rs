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
    mem,
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
    busy: HashMap<String, Lane>,
    under_way: usize,
    // Whether it was told that too many are under way, since there were last half as many.
    told: bool,
}

/// A topic of which some wait.
#[derive(Default)]
struct Lane {
    waiting: VecDeque<Event>,
    // How many were dropped, and whether it was told that others are held up, since it opened.
    dropped: u64,
    told: bool,
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
        let event = loop {
            let room = self.0.room.notified();
            match self.turn(event) {
                Turn::Waits => return,
                Turn::Now(event) => break event,
                Turn::Full(back) => event = back,
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
        state.busy.insert(topic.clone(), Lane::default());
        state.under_way += 1;
        drop(state);
        let lanes = self.clone();
        inner.tasks.spawn(inner.bounded(async move { lanes.drive(topic, running).await }));
    }

    /// Says whose turn it is, and tells once of each lane that it holds up all topics.
    fn turn(&self, event: Event) -> Turn {
        let mut state = self.lock();
        if state.under_way >= OF_ALL {
            if !mem::replace(&mut state.told, true) {
                drop(state);
                let under_way = OF_ALL;
                tracing::warn!(
                    under_way,
                    "handlers are too slow: the broadcasts of all topics wait"
                );
            }
            return Turn::Full(event);
        }
        let Some(lane) = state.busy.get_mut(event.topic()) else { return Turn::Now(event) };
        if lane.waiting.len() < OF_ONE {
            lane.waiting.push_back(event);
            state.under_way += 1;
            return Turn::Waits;
        }
        if self.0.waits {
            if !mem::replace(&mut lane.told, true) {
                drop(state);
                let (topic, why) = (event.topic(), "a topic's handlers are too slow");
                tracing::warn!(topic, "{why}: the broadcasts of all topics wait");
            }
            return Turn::Full(event);
        }
        lane.dropped += 1;
        let dropped = lane.dropped;
        drop(state);
        self.dropped(&event, dropped);
        Turn::Waits
    }

    /// Notes that an event was dropped, one of so many of its lane.
    fn dropped(&self, event: &Event, dropped: u64) {
        if let Some(inner) = self.0.inner.upgrade() {
            inner.counters.broadcasts.dropped.one();
            self.0.heard.fetch_add(1, SeqCst);
            // Whoever keeps what events tell of must not go on with it.
            inner.gaps.fetch_add(1, SeqCst);
        }
        // Told once in a while: it comes in crowds.
        if dropped.is_power_of_two() {
            let (topic, why) = (event.topic(), "a topic's handlers are too slow");
            tracing::warn!(topic, dropped, "{why}: broadcasts are dropped");
        }
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
                state.told &= state.under_way > OF_ALL / 2;
                let lane = state.busy.get_mut(&topic);
                let next = lane.and_then(|lane| lane.waiting.pop_front());
                if next.is_none() {
                    state.busy.remove(&topic);
                }
                next
            };
            self.0.room.notify_waiters();
            running = next.and_then(|event| self.run(event));
        }
    }
}
