//! A member of a group: what it knows, and how it claims what comes again.

use super::{
    claim::{Again, Asked, Claimed, claim},
    entry::{Fit, leased},
    groups::{Known, Opened, Opening, open, pruned, read_interest},
    id::{Id, draw, millis},
    keys::Keys,
    portion::{Portion, Room},
    reader::Reader,
    script::LEAVE,
    settle::{Fate, Settled, settle, through},
    unwanted::Unwanted,
};
use crate::{
    backend::{Leased, Order, SharedFilter, Start},
    backends::redis::link::Link,
    error::{ErrorKind, Result},
    predicate::{Filter, Interest},
};
use foldhash::fast::RandomState;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// How often a member looks for leases that ran out, at most and at least.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) interest: Interest,
    pub(super) order: Order,
    pub(super) wants: SharedFilter,
    pub(super) link: Link,
    pub(super) keys: Arc<Keys>,
    pub(super) reader: Reader,
    pub(super) state: Mutex<State>,
    pub(super) stopped: watch::Sender<bool>,
    // Held while something is fetched.
    pub(super) fetching: AsyncMutex<()>,
}

/// What a member knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) known: Known,
    union: Arc<Filter>,
    /// The events that were read and not touched since.
    pub(super) held: HashMap<Id, Held, RandomState>,
    /// The last event that was read.
    pub(super) newest: Id,
    pub(super) look_at: Instant,
    /// Up to where all was taken in, where the order of keys is kept.
    pub(super) taken_in: Id,
    /// Up to where it was looked at what was left by others.
    seen: u64,
    /// The fence of the next claim.
    claim: u64,
    /// The most that was asked for at once.
    pub(super) most: usize,
    pub(super) portion: Portion,
    room: Room,
    /// Whether something may have been read that nobody knows of: a read is under way, or was cut off.
    pub(super) suspects: bool,
}

/// An event that was read and not touched since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// When its lease began.
    pub(super) since: Instant,
    /// Whether it may be settled: an answer was lost.
    pub(super) in_doubt: bool,
    /// Its fence, if it was handed out.
    pub(super) fence: Option<u64>,
    /// What stands for the fence on the server.
    pub(super) fresh: u64,
    /// The connection for commands when it was read, if there was one. What goes out by that one is
    /// known to whoever has given the event; by another it may come to a server that has forgotten that.
    pub(super) way: Option<u64>,
}

impl State {
    pub(super) fn new(known: Known) -> Self {
        let union = Arc::new(known.interest.compile());
        Self {
            known,
            union,
            held: HashMap::default(),
            newest: Id::FIRST,
            look_at: Instant::now(),
            taken_in: Id::FIRST,
            seen: 0,
            claim: draw(),
            most: 1,
            portion: Portion::default(),
            room: Room::default(),
            suspects: false,
        }
    }
}

impl Member {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn me(&self) -> (&str, &str) {
        (&self.group, &self.name)
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Looks for what comes again, if it is time to.
    pub(super) async fn again(&self, max: usize) -> Result<Vec<Leased>> {
        if self.state().look_at > Instant::now() {
            return Ok(Vec::new());
        }
        let asked = {
            let state = self.state();
            let (lease, bytes) = (millis(self.lease), state.room.bytes());
            Asked { max, bytes, lease, seen: state.seen, fence: state.claim }
        };
        let claimed = claim(&self.link, &self.keys, self.me(), asked).await;
        if let Err(error) = &claimed {
            let mut state = self.state();
            if !state.room.failed(error) {
                // One that can't be brought here holds up nothing else: it is leased to nobody until its
                // lease runs out.
                tracing::warn!(%error, "an event can't be brought: its answer fails each time");
                (state.claim, state.look_at) = (draw(), Instant::now() + LOOK_MAX);
                return Ok(Vec::new());
            }
        } else {
            self.state().room.came();
        }
        let Claimed::Some(found) = claimed? else {
            self.reopen().await?;
            return Ok(Vec::new());
        };
        let most = (self.lease / 4).clamp(LOOK_MIN, LOOK_MAX);
        let next = found.soon.unwrap_or(most).min(most);
        // A full claim has left some; else what is due by now comes with the next look.
        let is_full = found.events.len() >= max;
        let next = if is_full { Duration::ZERO } else { next.max(Duration::from_millis(1)) };
        let (mut all, mut unwanted) = (Vec::with_capacity(found.events.len()), Vec::new());
        for again in found.events {
            let Again { entry, attempt, fence, lost, through: lines } = again;
            let id = entry.id;
            let (event, fit) = entry.decode(&self.wants);
            match fit {
                Fit::Wanted => {
                    let mut one = leased(id, fence, event, attempt);
                    (one.lost, one.finished) = (lost, through(&lines));
                    all.push(one);
                }
                Fit::Unwanted(topic) => unwanted.push(Unwanted::new(id, fence, event, topic)),
            }
        }
        self.put_aside(Vec::new(), unwanted).await?;
        let mut state = self.state();
        state.look_at = Instant::now() + next;
        state.taken_in = found.taken_in.unwrap_or(state.taken_in);
        // Until here an error leaves what was leased to the next claim, which has the same fence.
        (state.seen, state.claim) = (found.seen, draw());
        Ok(all)
    }

    /// Opens the group again: it was replayed, or the server has lost it.
    pub(super) async fn reopen(&self) -> Result<()> {
        let opening = Opening {
            group: &self.group,
            member: &self.name,
            lease: self.lease,
            interest: &self.interest,
            start: Start::Oldest,
            anew: false,
            keyed: self.order == Order::ByKey,
        };
        let known = match open(&self.link, &self.keys, &opening).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(pruned(&self.group)),
            known => known?,
        };
        let group = &*self.group;
        match known.state {
            Opened::Old => tracing::info!(group, "the group begins a new generation"),
            Opened::New => tracing::error!(
                group,
                "the server has lost its data: the group is made anew, what was unsettled is lost"
            ),
            Opened::Lost => tracing::error!(
                group,
                "the consumer group was deleted, or the stream with it: what was settled within a \
                 lease's time before may come again"
            ),
        }
        let mut state = self.state();
        if known.state != Opened::Old {
            state.held.clear();
        }
        state.union = Arc::new(known.interest.compile());
        state.known = known;
        state.look_at = Instant::now();
        (state.seen, state.suspects) = (0, false);
        Ok(())
    }

    /// Puts aside what is not handed out: what nobody in the group wants is settled, the rest is
    /// left to the others.
    pub(super) async fn put_aside(
        &self,
        mut fates: Vec<Fate>,
        mut unwanted: Vec<Unwanted>,
    ) -> Result<()> {
        if fates.is_empty() && unwanted.is_empty() {
            return Ok(());
        }
        let decided = fates.len();
        loop {
            let (version, union) = {
                let state = self.state();
                (state.known.version.clone(), Arc::clone(&state.union))
            };
            fates.truncate(decided);
            fates.extend(unwanted.iter_mut().map(|one| one.fate(&union)));
            // Others may want more by now: what nobody wanted must not be settled then.
            let version = if unwanted.is_empty() { "" } else { &*version };
            let lease = millis(self.lease);
            match settle(&self.link, &self.keys, self.me(), lease, version, &fates).await? {
                Settled::Each(_) => return Ok(()),
                Settled::Wider(version, interest) => {
                    let interest = read_interest(&interest)?;
                    let mut state = self.state();
                    state.union = Arc::new(interest.compile());
                    (state.known.version, state.known.interest) = (version, interest);
                }
            }
        }
    }

    pub(super) async fn leave(&self) -> Result<()> {
        // Whoever is fetching gives back what it reads while it is cut short.
        let _fetching = self.fetching.lock().await;
        let leaving = LEAVE.run(&self.link, &self.keys, "close", |command| {
            command.arg(&self.group).arg(&self.name);
        });
        leaving.await.map(drop)
    }
}
