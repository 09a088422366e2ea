//! A member as the engine sees it.

use super::{
    id::{Id, millis},
    member::{Held, Member},
    settle::{Came, Fate, Settled, acknowledge, are_kept, is_plain, settle, stale},
};
use crate::{
    backend::{Leased, Settle, Source, Verdict},
    error::{ErrorKind, Result},
};
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use std::time::{Duration, Instant};

/// How long letting go of a group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A connection and its number.
type Way = (u64, MultiplexedConnection);

impl Member {
    /// Returns what is known of the events that are settled here, of those that were not touched since
    /// they were read.
    fn known(&self, batch: &[Settle]) -> Vec<Option<Held>> {
        let state = self.state();
        let of = |settle: &Settle| {
            let held = state.held.get(&Id::of(&settle.receipt));
            held.filter(|held| held.fence == settle.receipt.fence).copied()
        };
        batch.iter().map(of).collect()
    }

    /// Tells whether it is an acknowledgement of an event that was not touched since it was read, under
    /// a lease that can't have run out.
    fn is_done(&self, settle: &Settle, held: Option<Held>, now: Instant) -> bool {
        let is_safe = |held: Held| now.duration_since(held.since) < self.lease / 4 * 3;
        is_plain(settle) && held.is_some_and(is_safe)
    }

    /// Acknowledges events that were not touched since they were read; tells which were, or
    /// that none is known, since the group was replayed.
    async fn settle_plain(&self, way: Way, ids: &[Id]) -> Result<Option<Vec<bool>>> {
        if ids.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let native = self.state().known.native.clone();
        match acknowledge(&self.link, way, &self.keys, &native, ids).await? {
            0 => Ok(None),
            count if count == ids.len() => Ok(Some(vec![true; count])),
            // Those that were not pending: who is kept beside the stream lost its lease, the others
            // were settled.
            _ => {
                let kept = are_kept(&self.link, &self.keys, &self.group, ids).await?;
                Ok(Some(kept.into_iter().map(|kept| !kept).collect()))
            }
        }
    }

    /// Settles all that must be looked at one by one.
    async fn settle_each(&self, batch: &[(&Settle, Option<Held>)]) -> Result<Vec<Came>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let fresh = |held: Option<Held>| held.map(|held| held.fresh);
        let fates = batch.iter().map(|(settle, held)| Fate::of(settle, fresh(*held)));
        let fates: Vec<_> = fates.collect();
        let lease = millis(self.lease);
        let settled = settle(&self.link, &self.keys, self.me(), lease, "", &fates).await?;
        let Settled::Each(kept) = settled else {
            return Ok(vec![Came::Lost; batch.len()]);
        };
        Ok(kept)
    }

    /// Notes what is held no more, and what may be settled although no answer said so.
    fn note(&self, batch: &[Settle], known: &[Option<Held>], results: &[Result<()>], at: Instant) {
        let mut state = self.state();
        for ((settle, known), result) in batch.iter().zip(known).zip(results) {
            let (id, fence) = (Id::of(&settle.receipt), settle.receipt.fence);
            // It may have been handed out again since.
            let Some(held) = state.held.get_mut(&id).filter(|held| held.fence == fence) else {
                continue;
            };
            match result {
                Ok(()) if settle.verdict == (Verdict::Extend { tries: 0 }) => held.since = at,
                Err(e) if e.kind() != ErrorKind::Stale => {
                    held.in_doubt |= self.is_done(settle, *known, at);
                }
                _ => drop(state.held.remove(&id)),
            }
        }
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
            match self.read(max).await {
                // Also if it was stopped meanwhile: they are this member's, and given back by
                // whoever stopped it.
                Ok(new) if !new.is_empty() => return Ok(new),
                Err(error) if !self.is_stopped() => return Err(error),
                _ => {}
            }
        }
        Ok(Vec::new())
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let (known, at) = (self.known(batch), Instant::now());
        let way = match self.link.get().await {
            Ok(way) => way,
            Err(e) => return vec![Err(e); batch.len()],
        };
        // By another connection than it was read beside, each is looked at.
        let number = way.0;
        let tell = |(settle, held): (&Settle, &Option<Held>)| {
            let is_done = self.is_done(settle, *held, at);
            (is_done && held.is_some_and(|held| held.way == number), is_done)
        };
        let how: Vec<(bool, bool)> = batch.iter().zip(&known).map(tell).collect();
        let ids = batch.iter().zip(&how).filter(|(_, (is_plain, _))| *is_plain);
        let ids: Vec<_> = ids.map(|(settle, _)| Id::of(&settle.receipt)).collect();
        let mut plain = self.settle_plain(way, &ids).await.map(|kept| kept.map(Vec::into_iter));
        // If the group was replayed, each has a place of its own now.
        let whole = matches!(plain, Ok(None));
        let rest = batch.iter().zip(&known).zip(&how);
        let rest = rest.filter(|(_, (is_plain, _))| whole || !is_plain);
        let rest: Vec<_> = rest.map(|((settle, held), _)| (settle, *held)).collect();
        let mut each = self.settle_each(&rest).await.map(Vec::into_iter);
        let mut result = |(held, (is_plain, is_done)): (&Option<Held>, &(bool, bool))| {
            let kept = match (&mut plain, &mut each) {
                (Ok(Some(kept)), _) if *is_plain => kept.next().unwrap_or(false),
                (Err(e), _) if *is_plain => return Err(e.clone()),
                // Under a lease that can't have run out, what is there no more was settled by the
                // try whose answer was lost.
                (_, Ok(each)) => match each.next() {
                    Some(Came::Settled) => true,
                    Some(Came::Gone) => *is_done && held.is_some_and(|held| held.in_doubt),
                    _ => false,
                },
                (_, Err(e)) => return Err(e.clone()),
            };
            if kept { Ok(()) } else { Err(stale()) }
        };
        let results: Vec<_> = known.iter().zip(&how).map(&mut result).collect();
        self.note(batch, &known, &results, at);
        results
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
