//! A member of a group: reads what is new, and claims what comes again.

use super::{
    claim::{Again, Claimed, claim},
    entry::{Entry, Fit, leased},
    groups::{Known, Opened, Opening, open, pruned, read_interest},
    id::{Id, millis},
    keys::Keys,
    reader::Reader,
    script::{KNOWN, LEAVE, list, number},
    settle::{Aside, Fate, Settled, settle, through},
    unwanted::{Unwanted, What},
};
use crate::{
    backend::{Leased, Order, SharedFilter, Start},
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
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

/// The fewest events that are worth a read of their own, if there is room for more.
const HALF_MIN: usize = 32;

/// How many events are asked for that may have been read by a read that was cut off.
const SUSPECTS_MAX: usize = 1000;

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
    /// The events that were read and not touched since, and when their leases began.
    pub(super) held: HashMap<Id, Instant, RandomState>,
    look_at: Instant,
    /// Up to where all was taken in, where the order of keys is kept.
    taken_in: Id,
    /// The most that was asked for at once.
    most: usize,
    /// Whether a read was cut off, and something may have been read that nobody knows of.
    suspects: bool,
}

impl State {
    pub(super) fn new(known: Known) -> Self {
        let union = Arc::new(known.interest.compile());
        Self {
            known,
            union,
            held: HashMap::default(),
            look_at: Instant::now(),
            taken_in: Id::FIRST,
            most: 1,
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
        let lease = millis(self.lease);
        let claimed = claim(&self.link, &self.keys, self.me(), max, lease).await?;
        let Claimed::Some(found, soon, taken_in) = claimed else {
            self.reopen().await?;
            return Ok(Vec::new());
        };
        let most = (self.lease / 4).clamp(LOOK_MIN, LOOK_MAX);
        let next = soon.unwrap_or(most).min(most);
        // A full claim has left some; else what is due by now comes with the next look.
        let next =
            if found.len() == max { Duration::ZERO } else { next.max(Duration::from_millis(1)) };
        {
            let mut state = self.state();
            state.look_at = Instant::now() + next;
            state.taken_in = taken_in.unwrap_or(state.taken_in);
        }
        let (mut all, mut unwanted) = (Vec::with_capacity(found.len()), Vec::new());
        for again in found {
            let Again { entry, attempt, fence, lost, through: lines } = again;
            let id = entry.id;
            let (event, fit) = entry.decode(&self.wants);
            match fit {
                Fit::Wanted => {
                    let mut one = leased(id, fence, event, attempt);
                    (one.lost, one.finished) = (lost, through(&lines));
                    all.push(one);
                }
                Fit::Unwanted => unwanted.push(Unwanted::new(id, fence, event)),
            }
        }
        self.put_aside(Vec::new(), unwanted).await?;
        Ok(all)
    }

    /// Opens the group again: it was replayed, or the server has lost it.
    async fn reopen(&self) -> Result<()> {
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
                "the stream was deleted: the group goes on with what is published since"
            ),
        }
        let mut state = self.state();
        if known.state != Opened::Old {
            state.held.clear();
        }
        state.union = Arc::new(known.interest.compile());
        state.known = known;
        state.look_at = Instant::now();
        Ok(())
    }

    /// Waits for what is new, until it is time to look for what comes again.
    pub(super) async fn read(&self, max: usize) -> Result<Vec<Leased>> {
        if self.state().known.keyed {
            return self.wait().await.map(|()| Vec::new());
        }
        let (native, wait, suspects, max) = {
            let mut state = self.state();
            state.most = state.most.max(max);
            // Half of what there is room for, so that one half is read while the other is handled.
            let max = max.min(state.most.div_ceil(2).max(HALF_MIN));
            let wait = state.look_at.saturating_duration_since(Instant::now());
            (state.known.native.clone(), wait, std::mem::take(&mut state.suspects), max)
        };
        // What a lost answer may have held is asked for whole.
        let count = if suspects { max.max(SUSPECTS_MAX) } else { max };
        let mut command = redis::Cmd::with_capacity(11, 160);
        command.arg("XREADGROUP").arg("GROUP").arg(&native).arg(&self.name).arg("COUNT").arg(count);
        if !suspects {
            command.arg("BLOCK").arg(self.reader.block(wait));
        }
        command.arg("STREAMS").arg(&self.keys.stream).arg(if suspects { "0" } else { ">" });
        let mut entries = match self.reader.read(&command, &self.keys, self.interrupted(wait)).await
        {
            Err(e) if is_no_group(&e) => {
                self.reopen().await?;
                return Ok(Vec::new());
            }
            Err(e) => {
                // An answer may have been on its way.
                self.state().suspects = true;
                return Err(e);
            }
            Ok(entries) => entries,
        };
        if suspects {
            let state = self.state();
            entries.retain(|entry| !state.held.contains_key(&entry.id));
        }
        self.sort(entries, max).await
    }

    /// Completes when reading is to end: it is woken, stopped, or time to look.
    async fn interrupted(&self, wait: Duration) {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            () = self.reader.woken() => self.state().look_at = Instant::now(),
            () = tokio::time::sleep(wait) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Waits until something is published that was not taken in: where the order of keys is kept
    /// nothing is leased but by claims.
    async fn wait(&self) -> Result<()> {
        let (wait, taken_in) = {
            let state = self.state();
            (state.look_at.saturating_duration_since(Instant::now()), state.taken_in)
        };
        let mut command = redis::Cmd::with_capacity(8, 120);
        command.arg("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(self.reader.block(wait));
        command.arg("STREAMS").arg(&self.keys.stream).arg(taken_in.to_string());
        let read = self.reader.read(&command, &self.keys, self.interrupted(wait)).await?;
        if !read.is_empty() {
            self.state().look_at = Instant::now();
        }
        Ok(())
    }

    /// Hands out what is wanted of what was read, and puts the rest aside.
    async fn sort(&self, mut entries: Vec<Entry>, max: usize) -> Result<Vec<Leased>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (fresh, until) = {
            let state = self.state();
            (state.known.fresh(), state.known.until)
        };
        if until.is_some_and(|until| entries.iter().any(|entry| entry.id <= until)) {
            entries = self.without_known(entries).await?;
        }
        let mut all = Vec::with_capacity(entries.len());
        let (mut fates, mut unwanted) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = entry.id;
            if let Some(delay) = entry.delay {
                fates.push(Fate::aside(id, fresh, Aside::HeldBack(delay)));
                continue;
            }
            if entry.is_ruled_out(&self.wants) {
                unwanted.push(Unwanted { id, fence: fresh, what: What::Entry(entry) });
                continue;
            }
            let (event, fit) = entry.decode(&self.wants);
            match fit {
                Fit::Wanted => all.push(leased(id, fresh, event, 1)),
                Fit::Unwanted => unwanted.push(Unwanted::new(id, fresh, event)),
            }
        }
        // What a lost answer held may be more than there is room for, and once it is stopped there
        // is none.
        let room = if self.is_stopped() { 0 } else { max.min(all.len()) };
        let given = all
            .drain(room..)
            .map(|one: Leased| Fate::aside(Id::of(&one.receipt), fresh, Aside::GivenBack));
        fates.extend(given);
        self.put_aside(fates, unwanted).await?;
        let now = Instant::now();
        let mut state = self.state();
        let forgotten = self.lease.saturating_mul(8);
        if state.held.len() > 4096 && state.held.len() == state.held.capacity() {
            state.held.retain(|_, since| now.duration_since(*since) < forgotten);
        }
        state.held.extend(all.iter().map(|one| (Id::of(&one.receipt), now)));
        Ok(all)
    }

    /// Leaves out what the group has not settled from before a replay: that stays as it is.
    async fn without_known(&self, entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let said = KNOWN.run(&self.link, &self.keys, "fetch", |command| {
            command.arg(&self.group);
            for entry in &entries {
                command.arg(entry.id.to_string());
            }
        });
        let known = list(said.await?);
        let new = entries.into_iter().zip(known).filter(|(_, known)| number(known) == Some(0));
        Ok(new.map(|(entry, _)| entry).collect())
    }

    /// Puts aside what is not handed out: what nobody in the group wants is settled, the rest is
    /// left to the others.
    async fn put_aside(&self, mut fates: Vec<Fate>, mut unwanted: Vec<Unwanted>) -> Result<()> {
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

/// Tells whether the server says that the group is not there, or went while it was waited for.
fn is_no_group(error: &Error) -> bool {
    let text = error.to_string();
    ["NOGROUP", "UNBLOCKED", "no longer exists"].iter().any(|word| text.contains(word))
}
