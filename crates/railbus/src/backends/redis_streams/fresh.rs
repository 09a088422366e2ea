//! How a member reads what is new, without losing what a lost answer held.

use super::{
    entry::{Entry, Fit, leased},
    id::{Id, draw},
    member::{Held, Member},
    script::{KNOWN, bytes, list, number},
    settle::{Aside, Fate},
    unwanted::{Unwanted, What},
};
use crate::{
    backend::Leased,
    error::{Error, Result},
};
use redis::{Cmd, Value};
use std::time::{Duration, Instant};

/// The fewest events that are worth a read of their own, if there is room for more.
const HALF_MIN: usize = 32;

/// How many places one look at what was read tells.
const PAGE: usize = 1000;

/// How long a read waits for what must be there, unless another member was quicker.
const HELD_WAIT: Duration = Duration::from_millis(100);

impl Member {
    /// Waits for what is new, until it is time to look for what comes again.
    pub(super) async fn read(&self, max: usize) -> Result<Vec<Leased>> {
        if self.state().known.keyed {
            return self.wait().await.map(|()| Vec::new());
        }
        if self.state().suspects {
            return self.read_again(max, max).await;
        }
        let (wait, half) = {
            let mut state = self.state();
            state.most = state.most.max(max);
            // Half of what there is room for, so that one half is read while the other is handled.
            let half = max.min(state.most.div_ceil(2).max(HALF_MIN));
            (state.look_at.saturating_duration_since(Instant::now()), half)
        };
        self.read_new(wait, half, max).await
    }

    /// Reads what the server gives once more, having lost what it did last: what is held is this
    /// member's again, all else is given back.
    pub(super) async fn read_held(&self) -> Result<()> {
        // Who fetches comes by it as well.
        let Ok(_fetching) = self.fetching.try_lock() else { return Ok(()) };
        if self.state().known.keyed {
            return Ok(());
        }
        while self.state().suspects {
            self.read_again(PAGE, 0).await?;
        }
        self.read_new(HELD_WAIT, PAGE, 0).await.map(drop)
    }

    /// Reads at most `most` events, for so long at most, and hands out `max` of them.
    async fn read_new(&self, wait: Duration, most: usize, max: usize) -> Result<Vec<Leased>> {
        let way = self.link.number();
        let (native, count) = {
            let mut state = self.state();
            // Until what was read is known, whatever fails in between.
            state.suspects = true;
            (state.known.native.clone(), state.portion.of(most))
        };
        let mut command = Cmd::with_capacity(11, 160);
        command.arg("XREADGROUP").arg("GROUP").arg(&native).arg(&self.name).arg("COUNT").arg(count);
        command.arg("BLOCK").arg(self.reader.block(wait));
        command.arg("STREAMS").arg(&self.keys.stream).arg(">");
        let read = self.reader.read(&command, &self.keys, self.interrupted(wait)).await;
        let entries = match read {
            Err(e) if is_no_group(&e) => {
                self.reopen().await?;
                return Ok(Vec::new());
            }
            Err(e) => {
                self.state().portion.failed(&e);
                return Err(e);
            }
            Ok(entries) => entries,
        };
        let all = self.take((count, way), entries, max).await?;
        self.state().suspects = false;
        Ok(all)
    }

    /// Reads what this member has by the server's account and nobody here knows of: the answer was
    /// lost, or what came after it failed. Asks for at most `most` events, and hands out `max` of them.
    async fn read_again(&self, most: usize, max: usize) -> Result<Vec<Leased>> {
        let way = self.link.number();
        let (native, count) = {
            let state = self.state();
            (state.known.native.clone(), state.portion.of(most))
        };
        let missing = match self.missing(&native, count).await {
            Err(e) if is_no_group(&e) => {
                self.reopen().await?;
                return Ok(Vec::new());
            }
            missing => missing?,
        };
        if missing.is_empty() {
            self.state().suspects = false;
            return Ok(Vec::new());
        }
        let mut command = Cmd::with_capacity(missing.len() + 5, missing.len() * 24 + 128);
        command.arg("XCLAIM").arg(&self.keys.stream).arg(&native).arg(&self.name).arg(0);
        for id in &missing {
            command.arg(id.to_string());
        }
        let entries = match self.reader.claim(&command, &self.keys).await {
            Err(e) => {
                let mut state = self.state();
                // One that can't be brought here is another member's when its lease runs out.
                state.suspects = state.portion.failed(&e);
                return Err(e);
            }
            Ok(entries) => entries,
        };
        {
            // Those that are gone meanwhile are not asked for again.
            let (mut state, now) = (self.state(), Instant::now());
            let gone = missing.iter().filter(|id| entries.iter().all(|entry| entry.id != **id));
            let none = Held { since: now, in_doubt: false, fence: None, fresh: 0, way: None };
            state.held.extend(gone.map(|id| (*id, none)));
        }
        self.take((count, way), entries, max).await
    }

    /// Returns some places that were read by this member and that nobody here knows of.
    async fn missing(&self, native: &str, count: usize) -> Result<Vec<Id>> {
        let (mut from, mut missing) = ("-".to_owned(), Vec::new());
        loop {
            let mut command = redis::cmd("XPENDING");
            command.arg(&self.keys.stream).arg(native).arg(&from).arg("+").arg(PAGE);
            command.arg(&self.name);
            let page = list(self.link.ask::<Value>("fetch", &command).await?);
            let is_last = page.len() < PAGE;
            let state = self.state();
            for one in page {
                let id = list(one).into_iter().next().and_then(|id| Id::read(&bytes(id)));
                let Some(id) = id else { continue };
                from = format!("({id}");
                if missing.len() < count && !state.held.contains_key(&id) {
                    missing.push(id);
                }
            }
            if is_last || missing.len() >= count {
                return Ok(missing);
            }
        }
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
        let mut command = Cmd::with_capacity(8, 120);
        command.arg("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(self.reader.block(wait));
        command.arg("STREAMS").arg(&self.keys.stream).arg(taken_in.to_string());
        let read = self.reader.read(&command, &self.keys, self.interrupted(wait)).await?;
        if !read.is_empty() {
            self.state().look_at = Instant::now();
        }
        Ok(())
    }

    /// Hands out what is wanted of what was read, and puts the rest aside.
    async fn take(
        &self,
        (asked, way): (usize, Option<u64>),
        mut entries: Vec<Entry>,
        max: usize,
    ) -> Result<Vec<Leased>> {
        let (fresh, until) = {
            let mut state = self.state();
            let bytes = entries.iter().map(Entry::bytes).sum();
            state.portion.came(asked, entries.len(), bytes);
            (state.known.fresh(), state.known.until)
        };
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        if until.is_some_and(|until| entries.iter().any(|entry| entry.id <= until)) {
            entries = self.without_known(entries).await?;
        }
        self.leave_out_held(&mut entries, fresh, way);
        let fence = draw();
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
                Fit::Wanted => all.push(leased(id, fence, event, 1)),
                Fit::Unwanted(topic) => unwanted.push(Unwanted::new(id, fresh, event, topic)),
            }
        }
        // Once it is stopped there is no room.
        let room = if self.is_stopped() { 0 } else { max.min(all.len()) };
        let given = all
            .drain(room..)
            .map(|one: Leased| Fate::aside(Id::of(&one.receipt), fresh, Aside::GivenBack));
        fates.extend(given);
        self.put_aside(fates, unwanted).await?;
        let now = Instant::now();
        let mut state = self.state();
        let forgotten = self.lease.saturating_mul(8);
        if state.held.len() > 4096 && state.held.len() + all.len() > state.held.capacity() {
            state.held.retain(|_, held| now.duration_since(held.since) < forgotten);
        }
        let held = Held { since: now, in_doubt: false, fence: Some(fence), fresh, way };
        state.held.extend(all.iter().map(|one| (Id::of(&one.receipt), held)));
        Ok(all)
    }

    /// Leaves out what is held already: a server that has lost what it did last gives it once more, and
    /// it is this member's as before.
    fn leave_out_held(&self, entries: &mut Vec<Entry>, fresh: u64, way: Option<u64>) {
        let (mut state, now, before) = (self.state(), Instant::now(), entries.len());
        let ends = entries.first().zip(entries.last()).map(|(first, last)| (first.id, last.id));
        let Some((first, last)) = ends else { return };
        let is_new = first > state.newest;
        state.newest = state.newest.max(last);
        if is_new {
            return;
        }
        entries.retain(|entry| match state.held.get_mut(&entry.id) {
            Some(held) if held.fence.is_some() && held.fresh == fresh => {
                (held.since, held.way) = (now, way);
                false
            }
            _ => true,
        });
        let events = before - entries.len();
        if events > 0 {
            let group = &*self.group;
            tracing::warn!(
                group,
                events,
                "the server has lost what it did last, and gave them again"
            );
        }
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
}

/// Tells whether the server says that the group is not there, or went while it was waited for.
fn is_no_group(error: &Error) -> bool {
    let text = error.to_string();
    ["NOGROUP", "UNBLOCKED", "no longer exists"].iter().any(|word| text.contains(word))
}
