//! A member as the engine sees it.

use super::{
    id::{Id, millis},
    member::Member,
    settle::{Fate, Settled, acknowledge, is_plain, settle, stale},
};
use crate::{
    backend::{Leased, Settle, Source, Verdict},
    error::Result,
};
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// How long letting go of a group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

impl Member {
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

    /// Acknowledges events that were not touched since they were read; tells whether all were, or
    /// that none is known, since the group was replayed.
    async fn settle_plain(&self, ids: &[Id]) -> Result<Option<bool>> {
        if ids.is_empty() {
            return Ok(Some(true));
        }
        let native = self.state().known.native.clone();
        match acknowledge(&self.link, &self.keys, &native, ids).await? {
            0 => Ok(None),
            count => Ok(Some(count == ids.len())),
        }
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
        let is_plain = self.plain(batch);
        let ids = batch.iter().zip(&is_plain).filter(|(_, plain)| **plain);
        let ids: Vec<_> = ids.map(|(settle, _)| Id::of(&settle.receipt)).collect();
        let rest = batch.iter().zip(&is_plain).filter(|(_, plain)| !**plain);
        let mut rest: Vec<_> = rest.map(|(settle, _)| settle).collect();
        let mut plain = self.settle_plain(&ids).await;
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
