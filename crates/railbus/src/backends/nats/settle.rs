//! Settling: what became of leased events.
//!
//! The server takes any acknowledgement of an event, by whomever. So a lease ends here: by this member's
//! own clock, which began to count before the server's did, or by the lease after it.

use super::{
    fault::closed,
    held::{self, Record},
    lease::Held,
    letters,
    member::Member,
    word::{ACK, PROGRESS, nak, say, stale},
};
use crate::{
    backend::{Settle, Verdict},
    clock::Timestamp,
    delivery::End,
    error::Result,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How many writes beside the acknowledgements are on their way at once.
const AT_ONCE: usize = 64;

/// A settlement under a lease that is held.
struct Under<'a> {
    at: usize,
    settle: &'a Settle,
    held: Held,
}

impl Under<'_> {
    /// Returns what is to be remembered of the event; none if there is nothing new.
    fn record(&self, now: Option<Timestamp>) -> Option<Record> {
        let mut record = self.held.record.clone();
        record.delivered = self.held.delivered;
        record.lengthen(&self.settle.failed);
        let ended = self.settle.ended.iter().map(|(name, end)| (name.to_string(), end.clone()));
        record.ends.extend(ended);
        record.attempt = self.held.attempt;
        (record.back, record.due) = (false, None);
        match self.settle.verdict {
            Verdict::Ack => return None,
            Verdict::Extend { tries: 0 }
                if self.settle.failed.is_empty() && self.settle.ended.is_empty() =>
            {
                return None;
            }
            Verdict::Extend { tries } => record.attempt = record.attempt.saturating_add(tries),
            Verdict::Nack { .. } => record.back = true,
            Verdict::Release { .. } => {
                record.back = true;
                record.attempt = record.attempt.saturating_sub(1);
            }
        }
        let delay = self.delay();
        record.due = now.filter(|_| !delay.is_zero()).map(|now| now.after(delay).as_micros());
        Some(record)
    }

    fn delay(&self) -> Duration {
        match self.settle.verdict {
            Verdict::Nack { delay } | Verdict::Release { delay } => delay,
            _ => Duration::ZERO,
        }
    }

    fn word(&self) -> Bytes {
        match self.settle.verdict {
            Verdict::Ack => Bytes::from_static(ACK),
            Verdict::Extend { .. } => Bytes::from_static(PROGRESS),
            _ => nak(self.delay()),
        }
    }
}

impl Member {
    /// Settles a batch; returns a result each.
    pub(super) async fn settle_all(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let began = Instant::now();
        if self.streams.api.link.is_closed() {
            return batch.iter().map(|_| Err(closed())).collect();
        }
        let mut results: Vec<Result<()>> = Vec::with_capacity(batch.len());
        let mut all = Vec::new();
        {
            let state = self.state();
            for (at, settle) in batch.iter().enumerate() {
                let held = state.held.get(&settle.receipt.place);
                let held = held.filter(|held| held.fence == settle.receipt.fence);
                match held.filter(|held| began < held.until()) {
                    Some(held) => {
                        all.push(Under { at, settle, held: held.clone() });
                        results.push(Ok(()));
                    }
                    None => results.push(Err(stale())),
                }
            }
        }
        let written = self.write(&all).await;
        let (mut words, mut said) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for (one, written) in all.iter().zip(written) {
            match written {
                Ok(_) if Instant::now() >= one.held.until() => results[one.at] = Err(stale()),
                Ok(record) => {
                    words.push((Arc::clone(&one.held.ack), one.word()));
                    said.push((one, record));
                }
                Err(e) => results[one.at] = Err(e),
            }
        }
        let came = say(&self.streams.api.link, words).await;
        if let Err(e) = &came {
            for (one, _) in &said {
                results[one.at] = Err(e.clone());
            }
        }
        let gone = self.note(&said, came.is_ok(), began);
        // What is not forgotten now goes with the group.
        for seq in gone {
            let forgotten = held::forget(&self.streams, &self.consumer, seq).await;
            if let Err(error) = forgotten {
                tracing::debug!(%error, seq, "what was remembered of an event stays");
            }
        }
        results
    }

    /// Writes what must be there before the server is told: dead letters, and what is remembered.
    async fn write(&self, all: &[Under<'_>]) -> Vec<Result<Option<Record>>> {
        let is_later = |one: &Under<'_>| !one.delay().is_zero();
        let now = match all.iter().any(is_later) {
            // Without it the server alone knows until when it is held back, as long as it runs.
            true => self.streams.now().await.ok(),
            false => None,
        };
        let writing = all.iter().map(|one| self.write_one(one, now)).collect::<Vec<_>>();
        stream::iter(writing).buffered(AT_ONCE).collect().await
    }

    async fn write_one(&self, one: &Under<'_>, now: Option<Timestamp>) -> Result<Option<Record>> {
        let (record, seq) = (one.record(now), one.settle.receipt.place);
        let mut history = one.held.record.clone();
        history.lengthen(&one.settle.failed);
        for (subscription, end) in &one.settle.ended {
            let End::Dead(reason) = end else { continue };
            let letter = letters::Dying { seq, held: &one.held, subscription, reason };
            let whose = (&*self.group, &*self.consumer);
            letters::write(&self.streams, whose, letter, &history.history).await?;
        }
        if let Some(record) = &record {
            held::write(&self.streams, &self.consumer, seq, record).await?;
        }
        Ok(record)
    }

    /// Notes what is held no more, or for longer; returns what need not be remembered any more.
    fn note(
        &self,
        said: &[(&Under<'_>, Option<Record>)],
        is_done: bool,
        began: Instant,
    ) -> Vec<u64> {
        let mut state = self.state();
        let mut gone = Vec::new();
        for (one, record) in said {
            let seq = one.settle.receipt.place;
            let held = state.held.get_mut(&seq).filter(|held| held.fence == one.held.fence);
            let Some(held) = held else { continue };
            match one.settle.verdict {
                Verdict::Extend { .. } if is_done => {
                    held.extend(began, self.lease, self.ack_wait);
                    if let Some(record) = record {
                        held.attempt = record.attempt;
                        held.record = record.clone();
                        held.is_remembered = true;
                    }
                }
                Verdict::Ack if is_done => {
                    if held.is_remembered {
                        gone.push(seq);
                    }
                    state.held.remove(&seq);
                    state.done.add(seq);
                }
                _ if is_done => drop(state.held.remove(&seq)),
                // It may be done, and is tried again.
                _ => {
                    if let Some(record) = record {
                        held.is_remembered = true;
                        // What is written once more has each try once.
                        held.record.ends.clone_from(&record.ends);
                    }
                }
            }
        }
        gone
    }
}
