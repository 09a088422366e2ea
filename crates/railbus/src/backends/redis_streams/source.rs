//! A member as the engine sees it.

use super::{
    id::{Id, millis},
    member::{Held, Member},
    settle::{Fate, Settled, acknowledge, are_kept, is_plain, settle, stale},
};
use crate::{
    backend::{Leased, Settle, Source, Verdict},
    error::{ErrorKind, Result},
};
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// How long letting go of a group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

impl Member {
    /// Tells which settlements are acknowledgements of events that were not touched since they were
    /// read, under leases that can't have run out; and of each whether it may have been done before.
    fn plain(&self, batch: &[Settle]) -> Vec<Option<Held>> {
        let state = self.state();
        let (fresh, now) = (state.known.fresh(), Instant::now());
        let is_safe = |held: &Held| now.duration_since(held.since) < self.lease / 4 * 3;
        let of = |settle: &Settle| {
            let is_plain = settle.receipt.fence == fresh && is_plain(settle);
            let held = state.held.get(&Id::of(&settle.receipt)).filter(|_| is_plain);
            held.copied().filter(is_safe)
        };
        batch.iter().map(of).collect()
    }

    /// Acknowledges events that were not touched since they were read; tells which were, or
    /// that none is known, since the group was replayed.
    async fn settle_plain(&self, ids: &[Id]) -> Result<Option<Vec<bool>>> {
        if ids.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let native = self.state().known.native.clone();
        match acknowledge(&self.link, &self.keys, &native, ids).await? {
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
    async fn settle_each(&self, batch: &[&Settle]) -> Result<Vec<bool>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let fates: Vec<_> = batch.iter().map(|settle| Fate::of(settle)).collect();
        let lease = millis(self.lease);
        let settled = settle(&self.link, &self.keys, self.me(), lease, "", &fates).await?;
        let Settled::Each(kept) = settled else { return Ok(vec![false; batch.len()]) };
        Ok(kept)
    }

    /// Notes what is held no more, and what may be settled although no answer said so.
    fn note(&self, batch: &[Settle], plain: &[Option<Held>], results: &[Result<()>], at: Instant) {
        let mut state = self.state();
        for ((settle, plain), result) in batch.iter().zip(plain).zip(results) {
            let id = Id::of(&settle.receipt);
            match result {
                Ok(()) if settle.verdict == (Verdict::Extend { tries: 0 }) => {
                    if let Some(held) = state.held.get_mut(&id) {
                        held.since = at;
                    }
                }
                Err(e) if e.kind() != ErrorKind::Stale => {
                    if let Some(held) = state.held.get_mut(&id) {
                        held.in_doubt |= plain.is_some();
                    }
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
        let (is_plain, at) = (self.plain(batch), Instant::now());
        let ids = batch.iter().zip(&is_plain).filter(|(_, plain)| plain.is_some());
        let ids: Vec<_> = ids.map(|(settle, _)| Id::of(&settle.receipt)).collect();
        let mut plain = self.settle_plain(&ids).await.map(|kept| kept.map(Vec::into_iter));
        // If the group was replayed, each has a place of its own now.
        let whole = matches!(plain, Ok(None));
        let rest = batch.iter().zip(&is_plain).filter(|(_, plain)| whole || plain.is_none());
        let rest: Vec<_> = rest.map(|(settle, _)| settle).collect();
        let mut each = self.settle_each(&rest).await.map(Vec::into_iter);
        let mut result = |held: &Option<Held>| {
            let kept = match (&mut plain, &mut each) {
                (Ok(Some(kept)), _) if held.is_some() => kept.next().unwrap_or(false),
                (Err(e), _) if held.is_some() => return Err(e.clone()),
                // Under a lease that can't have run out, what is there no more was settled by the
                // try whose answer was lost.
                (_, Ok(each)) => {
                    each.next().unwrap_or(false) || held.is_some_and(|held| held.in_doubt)
                }
                (_, Err(e)) => return Err(e.clone()),
            };
            if kept { Ok(()) } else { Err(stale()) }
        };
        let results: Vec<_> = is_plain.iter().map(&mut result).collect();
        self.note(batch, &is_plain, &results, at);
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
