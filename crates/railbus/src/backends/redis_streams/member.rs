//! A member of a group: reads what is new, claims what comes again, settles.

use super::{
    claim::{Again, Claimed, claim},
    entry::{Entry, Fit, leased},
    groups::{Known, Opened, Opening, millis, open, pruned, read_interest},
    id::Id,
    keys::Keys,
    reader::Reader,
    script::{KNOWN, LEAVE, list, number},
    settle::{Aside, Fate, Settled, acknowledge, is_plain, settle, stale, through},
};
use crate::{
    backend::{Leased, Settle, SharedFilter, Source, Start, Undecodable, Verdict},
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
    event::Event,
    predicate::{Filter, Interest},
};
use async_trait::async_trait;
use redis::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Mutex as AsyncMutex, watch};

/// How often a member looks for leases that ran out, at most and at least.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// How many events are asked for that may have been read by a read that was cut off.
const SUSPECTS_MAX: usize = 1000;

/// How long letting go of a group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) group: String,
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) interest: Interest,
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
    known: Known,
    union: Arc<Filter>,
    /// The events that were read and not touched since, and when their leases began.
    held: HashMap<Id, Instant>,
    look_at: Instant,
    /// Whether a read was cut off, and something may have been read that nobody knows of.
    suspects: bool,
}

impl State {
    pub(super) fn new(known: Known) -> Self {
        let union = Arc::new(known.interest.compile());
        Self { known, union, held: HashMap::new(), look_at: Instant::now(), suspects: false }
    }
}

/// An event that was read and is not handed out.
struct Unwanted {
    id: Id,
    fence: u64,
    what: What,
}

/// What is known of an event that is not handed out.
enum What {
    /// It was not decoded, since its topic ruled it out.
    Entry(Entry),
    /// Its type and topic.
    Event(String, String),
    /// It is no event.
    Poison,
}

impl Unwanted {
    fn new(id: Id, fence: u64, event: Result<Event, Undecodable>) -> Self {
        let what = event.map_or(What::Poison, |event| {
            What::Event(event.event_type().into(), event.topic().into())
        });
        Self { id, fence, what }
    }

    /// Says what becomes of it where all members together want this.
    fn fate(&mut self, union: &SharedFilter) -> Fate {
        if let What::Entry(entry) = &self.what {
            if entry.is_ruled_out(union) {
                return Fate::aside(self.id, self.fence, Aside::Dropped);
            }
            self.what = match entry.names() {
                Some((event_type, topic)) => What::Event(event_type, topic),
                None => What::Poison,
            };
        }
        let left = match &self.what {
            What::Event(event_type, topic) => union.matches(event_type, topic),
            What::Entry(_) | What::Poison => true,
        };
        Fate::aside(self.id, self.fence, if left { Aside::Left } else { Aside::Dropped })
    }
}

impl Member {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn me(&self) -> (&str, &str) {
        (&self.group, &self.name)
    }

    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Looks for what comes again, if it is time to.
    async fn again(&self, max: usize) -> Result<Vec<Leased>> {
        if self.state().look_at > Instant::now() {
            return Ok(Vec::new());
        }
        let lease = millis(self.lease);
        let claimed = claim(&self.link, &self.keys, self.me(), max, lease).await?;
        let Claimed::Some(found, soon) = claimed else {
            self.reopen().await?;
            return Ok(Vec::new());
        };
        let most = (self.lease / 4).clamp(LOOK_MIN, LOOK_MAX);
        let next = soon.unwrap_or(most).min(most);
        // A full claim has left some; else what is due by now comes with the next look.
        let next =
            if found.len() == max { Duration::ZERO } else { next.max(Duration::from_millis(1)) };
        self.state().look_at = Instant::now() + next;
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
    async fn read(&self, max: usize) -> Result<Vec<Leased>> {
        let (native, wait, suspects) = {
            let mut state = self.state();
            let wait = state.look_at.saturating_duration_since(Instant::now());
            (state.known.native.clone(), wait, std::mem::take(&mut state.suspects))
        };
        // What a lost answer may have held is asked for whole.
        let count = if suspects { max.max(SUSPECTS_MAX) } else { max };
        let mut command = redis::Cmd::with_capacity(11, 160);
        command.arg("XREADGROUP").arg("GROUP").arg(&native).arg(&self.name).arg("COUNT").arg(count);
        if !suspects {
            command.arg("BLOCK").arg(self.reader.block(wait));
        }
        command.arg("STREAMS").arg(&self.keys.stream).arg(if suspects { "0" } else { ">" });
        let mut stopped = self.stopped.subscribe();
        let interrupt = async {
            tokio::select! {
                () = self.reader.woken() => self.state().look_at = Instant::now(),
                () = tokio::time::sleep(wait) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        };
        let said = match self.reader.read(&command, interrupt).await {
            Err(e) if is_no_group(&e) => {
                self.reopen().await?;
                return Ok(Vec::new());
            }
            Err(e) => {
                // An answer may have been on its way.
                self.state().suspects = true;
                return Err(e);
            }
            Ok(said) => said,
        };
        let mut entries = entries(said);
        if suspects {
            let state = self.state();
            entries.retain(|entry| !state.held.contains_key(&entry.id));
        }
        self.sort(entries, max).await
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

    /// Tells which settlements are acknowledgements of events that were not touched since they were
    /// read, under leases that can't have run out.
    fn plain(&self, batch: &[Settle]) -> Vec<bool> {
        let mut state = self.state();
        let (fresh, now) = (state.known.fresh(), Instant::now());
        let is_safe = |since: Instant| now.duration_since(since) < self.lease / 4 * 3;
        let mut of = |settle: &Settle| {
            let renews = matches!(settle.verdict, Verdict::Extend { tries: 0 });
            let id = Id::of(&settle.receipt);
            let since = match renews {
                true => state.held.get(&id).copied(),
                false => state.held.remove(&id),
            };
            settle.receipt.fence == fresh && is_plain(settle) && since.is_some_and(is_safe)
        };
        batch.iter().map(&mut of).collect()
    }

    async fn settle_plain(&self, ids: Vec<Id>) -> Result<Option<bool>> {
        if ids.is_empty() {
            return Ok(Some(true));
        }
        let generation = self.state().known.generation;
        let mut all = true;
        for part in ids.chunks(1024) {
            let group = (&*self.group, generation);
            match acknowledge(&self.link, &self.keys, group, part).await? {
                None => return Ok(None),
                Some(count) => all &= count == part.len(),
            }
        }
        Ok(Some(all))
    }

    /// Settles all that must be looked at one by one.
    async fn settle_each(&self, batch: &[&Settle]) -> Result<Vec<bool>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let fates: Vec<_> = batch.iter().map(|settle| Fate::of(settle)).collect();
        let now = Instant::now();
        let lease = millis(self.lease);
        let settled = settle(&self.link, &self.keys, self.me(), lease, "", &fates).await?;
        let Settled::Each(kept) = settled else { return Ok(vec![false; batch.len()]) };
        let mut state = self.state();
        for (settle, kept) in batch.iter().zip(&kept) {
            if let (true, Verdict::Extend { tries: 0 }) = (*kept, &settle.verdict)
                && let Some(since) = state.held.get_mut(&Id::of(&settle.receipt))
            {
                *since = now;
            }
        }
        Ok(kept)
    }

    async fn leave(&self) -> Result<()> {
        // Whoever is fetching gives back what it reads while it is cut short.
        let _fetching = self.fetching.lock().await;
        let leaving = LEAVE.run(&self.link, &self.keys, "close", |command| {
            command.arg(&self.group).arg(&self.name);
        });
        leaving.await.map(drop)
    }
}

#[async_trait]
impl Source for Member {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let _fetching = self.fetching.lock().await;
        while !self.is_stopped() {
            let again = self.again(max).await?;
            if !again.is_empty() {
                return Ok(again);
            }
            let new = self.read(max).await;
            if self.is_stopped() {
                break;
            }
            let new = new?;
            if !new.is_empty() {
                return Ok(new);
            }
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let is_plain = self.plain(batch);
        let ids = batch.iter().zip(&is_plain).filter(|(_, plain)| **plain);
        let ids: Vec<_> = ids.map(|(settle, _)| Id::of(&settle.receipt)).collect();
        let rest = batch.iter().zip(&is_plain).filter(|(_, plain)| !**plain);
        let mut rest: Vec<_> = rest.map(|(settle, _)| settle).collect();
        let mut plain = self.settle_plain(ids).await;
        if let Ok(None) = plain {
            // The group was replayed: each has a place of its own now.
            rest = batch.iter().collect();
        }
        let mut each = self.settle_each(&rest).await.map(Vec::into_iter);
        if rest.len() == batch.len() {
            plain = Ok(None);
        }
        let one = |kept: bool| if kept { Ok(()) } else { Err(stale()) };
        let mut result = |is_plain: bool| match &plain {
            Ok(Some(kept)) if is_plain => one(*kept),
            Err(e) if is_plain => Err(e.clone()),
            _ => match &mut each {
                Ok(each) => one(each.next().unwrap_or(false)),
                Err(e) => Err(e.clone()),
            },
        };
        is_plain.into_iter().map(&mut result).collect()
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        // A member that can't say so is forgotten after a day.
        let _ = tokio::time::timeout(LEAVE_WITHIN, self.leave()).await;
        self.reader.close();
        Ok(())
    }
}

/// Reads what a read of streams answers; nothing if it waited in vain.
pub(super) fn entries(said: Value) -> Vec<Entry> {
    let streams: Vec<Value> = match said {
        Value::Map(streams) => streams.into_iter().map(|(_, entries)| entries).collect(),
        Value::Array(streams) => streams.into_iter().filter_map(|s| list(s).pop()).collect(),
        _ => return Vec::new(),
    };
    streams.into_iter().flat_map(list).filter_map(Entry::read).collect()
}

/// Tells whether the server says that the group is not there, or went while it was waited for.
fn is_no_group(error: &Error) -> bool {
    let text = error.to_string();
    ["NOGROUP", "UNBLOCKED", "no longer exists"].iter().any(|word| text.contains(word))
}
