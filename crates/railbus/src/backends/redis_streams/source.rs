//! A member as the engine sees it.

use super::{
    id::{Id, millis},
    member::{Held, Member},
    settle::{
        BATCH_MAX, Came, Fate, Settled, acknowledge, are_kept, is_plain, settle, stale, unread,
    },
};
use crate::{
    backend::{Leased, Settle, Source, Verdict},
    error::{ErrorKind, Result},
};
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long letting go of a group may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// How long a settlement waits until what it is about is read once more.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// How a settlement is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// By an acknowledgement alone.
    Alone,
    /// By the script; whether it is an acknowledgement under a lease that can't have run out.
    Looked { is_done: bool },
}

impl How {
    /// Tells whether it is an acknowledgement under a lease that can't have run out.
    fn is_done(self) -> bool {
        matches!(self, Self::Alone | Self::Looked { is_done: true })
    }
}

/// A connection and its number.
type Way = (u64, MultiplexedConnection);

impl Member {
    /// Returns what is known of the events that are settled here, of those that were not touched since
    /// they were read.
    fn known(&self, batch: &[Settle]) -> Vec<Option<Held>> {
        let state = self.state();
        let of = |settle: &Settle| {
            let held = state.held.get(&Id::of(&settle.receipt));
            held.filter(|held| held.fence == Some(settle.receipt.fence)).copied()
        };
        batch.iter().map(of).collect()
    }

    /// Tells whether it is an acknowledgement of an event that was not touched since it was read, under
    /// a lease that can't have run out.
    fn is_done(&self, settle: &Settle, held: Option<Held>, now: Instant) -> bool {
        let is_safe = |held: Held| now.duration_since(held.since) < self.lease / 4 * 3;
        is_plain(settle) && held.is_some_and(is_safe)
    }

    /// Tells how a settlement is made, by the connection of this number.
    fn how(&self, settle: &Settle, held: Option<Held>, now: Instant, number: u64) -> How {
        let is_done = self.is_done(settle, held, now);
        // By another connection than it was read beside, each is looked at.
        match held.and_then(|held| held.way) == Some(number) && is_done {
            true => How::Alone,
            false => How::Looked { is_done },
        }
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

    /// Settles all that must be looked at one by one. What a server has to give once more, since it has
    /// lost what it did last, is read first.
    async fn settle_each(&self, batch: &[(&Settle, Option<Held>)]) -> Vec<Result<Came>> {
        let mut all = self.settle_looked(batch).await;
        let is_unread = |came: &Result<Came>| matches!(came, Ok(Came::Unread));
        if !all.iter().any(is_unread) {
            return all;
        }
        match timeout(READ_WITHIN, self.read_held()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "what is held could not be read once more"),
            Err(_) => tracing::debug!("what is held was not read once more in time"),
        }
        let unread = batch.iter().zip(&all).filter(|(_, came)| is_unread(came));
        let unread: Vec<_> = unread.map(|(one, _)| *one).collect();
        let again = self.settle_looked(&unread).await;
        for (one, again) in all.iter_mut().filter(|came| is_unread(came)).zip(again) {
            *one = again;
        }
        all
    }

    /// Settles by the script. What a call that fails was about has its error, and what came before keeps
    /// its answer: that was settled, and another try would find nothing to settle.
    async fn settle_looked(&self, batch: &[(&Settle, Option<Held>)]) -> Vec<Result<Came>> {
        let fresh = |held: Option<Held>| held.map(|held| held.fresh);
        let (mut all, lease) = (Vec::with_capacity(batch.len()), millis(self.lease));
        for part in batch.chunks(BATCH_MAX) {
            let fates = part.iter().map(|(settle, held)| Fate::of(settle, fresh(*held)));
            let fates: Vec<_> = fates.collect();
            match settle(&self.link, &self.keys, self.me(), lease, "", &fates).await {
                Ok(Settled::Each(came)) => all.extend(came.into_iter().map(Ok)),
                Ok(Settled::Wider(..)) => all.extend(part.iter().map(|_| Ok(Came::Lost))),
                Err(e) => {
                    all.resize(batch.len(), Err(e));
                    break;
                }
            }
        }
        all
    }

    /// Notes what is held no more, and what may be settled although no answer said so.
    fn note(&self, batch: &[Settle], known: &[Option<Held>], results: &[Result<()>], at: Instant) {
        let mut state = self.state();
        for ((settle, known), result) in batch.iter().zip(known).zip(results) {
            let (id, fence) = (Id::of(&settle.receipt), Some(settle.receipt.fence));
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
        let number = way.0;
        let how = |(settle, held): (&Settle, &Option<Held>)| self.how(settle, *held, at, number);
        let mut how: Vec<How> = batch.iter().zip(&known).map(how).collect();
        let ids = batch.iter().zip(&how).filter(|(_, how)| **how == How::Alone);
        let ids: Vec<_> = ids.map(|(settle, _)| Id::of(&settle.receipt)).collect();
        let plain = self.settle_plain(way, &ids).await;
        if matches!(plain, Ok(None)) {
            // The group was replayed: each has a place of its own now.
            let looked = |how: &mut How| *how = How::Looked { is_done: how.is_done() };
            how.iter_mut().for_each(looked);
        }
        let mut plain = plain.map(|kept| kept.unwrap_or_default().into_iter());
        let looked = batch.iter().zip(&known).zip(&how);
        let looked = looked.filter(|(_, how)| **how != How::Alone);
        let looked: Vec<_> = looked.map(|((settle, held), _)| (settle, *held)).collect();
        let mut each = self.settle_each(&looked).await.into_iter();
        let mut result = |(held, how): (&Option<Held>, &How)| {
            let came = match how {
                How::Alone => match &mut plain {
                    Ok(kept) => match kept.next() {
                        Some(true) => Ok(Came::Settled),
                        _ => Ok(Came::Lost),
                    },
                    Err(e) => Err(e.clone()),
                },
                How::Looked { .. } => each.next().unwrap_or(Ok(Came::Lost)),
            };
            match came {
                Ok(Came::Settled) => Ok(()),
                // Under a lease that can't have run out, what is there no more was settled by the
                // try whose answer was lost.
                Ok(Came::Gone) if how.is_done() && held.is_some_and(|held| held.in_doubt) => Ok(()),
                Ok(Came::Unread) => Err(unread()),
                Ok(Came::Gone | Came::Lost) => Err(stale()),
                Err(e) => Err(e),
            }
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
        let _ = timeout(LEAVE_WITHIN, self.leave()).await;
        self.reader.close();
        Ok(())
    }
}
