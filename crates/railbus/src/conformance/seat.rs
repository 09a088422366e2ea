//! A member's place at a group, and an ear for what a bus delivers.

use super::finding::{Broken, Checked, ensure};
use crate::{
    backend::{Backend, Leased, Receipt, Settle, Source, Verdict},
    bus::{Bus, Subscription},
    error::{Error, ErrorKind, Result},
    event::Event,
    predicate::Predicate,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// An open source, one event at a time.
pub(super) struct Seat {
    pub(super) source: Arc<dyn Source>,
    backend: Arc<dyn Backend>,
    topic: String,
    patience: Duration,
}

impl Seat {
    pub(super) fn new(
        source: Arc<dyn Source>,
        backend: Arc<dyn Backend>,
        topic: String,
        patience: Duration,
    ) -> Self {
        Self { source, backend, topic, patience }
    }

    /// Waits for at least one event and at most `max`.
    pub(super) async fn fetch(&self, max: usize) -> Checked<Vec<Leased>> {
        let waited = tokio::time::timeout(self.patience, self.source.fetch(max)).await;
        let late = |_| Broken::late(format!("waited {:?} for an event", self.patience));
        let leased = waited.map_err(late)??;
        ensure(leased.len() <= max, || {
            format!("a fetch of at most {max} gave {} events", leased.len())
        })?;
        ensure(!leased.is_empty(), || "a fetch gave nothing although it was not stopped".into())?;
        Ok(leased)
    }

    pub(super) async fn next(&self) -> Checked<Leased> {
        let none = || Broken::new("a fetch gave nothing");
        self.fetch(1).await?.pop().ok_or_else(none)
    }

    /// Waits for `count` events.
    pub(super) async fn take(&self, count: usize) -> Checked<Vec<Leased>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let more = self.fetch(count - taken.len()).await;
            let of = || format!("{} of {count} events came", taken.len());
            taken.extend(more.map_err(|broken| broken.within(&of()))?);
        }
        Ok(taken)
    }

    /// Settles one lease; the result is the backend's.
    pub(super) async fn settle(&self, receipt: &Receipt, verdict: Verdict) -> Checked<Result<()>> {
        self.settle_fully(Settle::new(receipt.clone(), verdict)).await
    }

    /// As [`Seat::settle`], with what its subscriptions came to.
    pub(super) async fn settle_fully(&self, settle: Settle) -> Checked<Result<()>> {
        let batch = [settle];
        let settling = tokio::time::timeout(self.patience, self.source.settle(&batch)).await;
        let late = |_| Broken::late(format!("waited {:?} for a settlement", self.patience));
        let mut results = settling.map_err(late)?;
        let count = results.len();
        ensure(count == 1, || format!("one settlement gave {count} results"))?;
        let lost = || Error::new(ErrorKind::Internal, "settle", "no result");
        Ok(results.pop().unwrap_or_else(|| Err(lost())))
    }

    pub(super) async fn ack(&self, leased: &Leased) -> Checked {
        let acked = self.settle(&leased.receipt, Verdict::Ack).await?;
        acked.map_err(|e| Broken::from(e).within("an ack within its lease"))
    }

    pub(super) async fn ack_all(&self, leased: &[Leased]) -> Checked {
        for leased in leased {
            self.ack(leased).await?;
        }
        Ok(())
    }

    /// Acks events in one settlement.
    pub(super) async fn ack_together(&self, leased: &[Leased]) -> Checked {
        let ack = |l: &Leased| Settle::new(l.receipt.clone(), Verdict::Ack);
        for settled in self.settle_together(leased.iter().map(ack).collect()).await? {
            settled.map_err(|e| Broken::from(e).within("an ack within its lease"))?;
        }
        Ok(())
    }

    /// Settles in one call; the results are the backend's, one each.
    pub(super) async fn settle_together(&self, batch: Vec<Settle>) -> Checked<Vec<Result<()>>> {
        let settling = tokio::time::timeout(self.patience, self.source.settle(&batch)).await;
        let late = |_| Broken::late(format!("waited {:?} for a settlement", self.patience));
        let results = settling.map_err(late)?;
        let (count, of) = (results.len(), batch.len());
        ensure(count == of, || format!("{of} settlements gave {count} results"))?;
        Ok(results)
    }

    /// Takes and acks `count` events, a few at a time; returns their ids.
    pub(super) async fn handle(&self, count: usize) -> Checked<Vec<String>> {
        let mut handled = Vec::with_capacity(count);
        while handled.len() < count {
            let of = || format!("{} of {count} events are handled", handled.len());
            let taken = self.fetch((count - handled.len()).min(16)).await;
            let taken = taken.map_err(|broken| broken.within(&of()))?;
            self.ack_together(&taken).await?;
            handled.extend(ids(&taken).map(str::to_owned));
        }
        Ok(handled)
    }

    /// Shows that nothing else is left: an event that is published now, and whose lease is then
    /// left to run out, is all that comes.
    ///
    /// What was only said to be settled has had its lease run out by then, and would come too.
    pub(super) async fn nothing_else(&self) -> Checked {
        let marker = Event::new("conformance.marker").topic(&*self.topic).payload(());
        let batch = [marker.clone().into()];
        self.backend.publish(&batch).await.into_iter().collect::<Result<()>>()?;
        let mut last = None;
        // Delivered, left alone, and delivered again.
        for _ in 0..2 {
            let next = self.next().await?;
            ensure(id(&next) == marker.id(), || {
                format!("{} came again (attempt {})", id(&next), next.attempt)
            })?;
            last = Some(next);
        }
        self.ack_all(last.as_slice()).await
    }
}

/// Returns the id of an event that is one.
pub(super) fn id(leased: &Leased) -> &str {
    leased.event.as_ref().map_or("bytes that are no event", Event::id)
}

/// Returns the ids of events, in order.
pub(super) fn ids(leased: &[Leased]) -> impl Iterator<Item = &str> {
    leased.iter().map(id)
}

/// A broadcast's subscription whose events can be awaited.
pub(super) struct Ear {
    heard: mpsc::UnboundedReceiver<Event>,
    patience: Duration,
    // Kept, so that it is known to be open as long as this is.
    _subscription: Subscription,
}

impl Ear {
    pub(super) async fn open(
        bus: &Bus,
        predicate: impl Into<Predicate>,
        patience: Duration,
    ) -> Checked<Self> {
        let (hears, heard) = mpsc::unbounded_channel();
        let hear = move |event: &Event| {
            // Nobody listens any more only if the case is over.
            let _ = hears.send(event.clone());
        };
        let _subscription = bus.on(predicate).run(hear).await?;
        Ok(Self { heard, patience, _subscription })
    }

    pub(super) async fn next(&mut self) -> Checked<Event> {
        let waited = tokio::time::timeout(self.patience, self.heard.recv()).await;
        let late = |_| Broken::late(format!("waited {:?} for a broadcast", self.patience));
        waited.map_err(late)?.ok_or_else(|| Broken::new("the bus let go of its subscription"))
    }

    pub(super) async fn take(&mut self, count: usize) -> Checked<Vec<Event>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let of = format!("{} of {count} broadcasts came", taken.len());
            taken.push(self.next().await.map_err(|broken| broken.within(&of))?);
        }
        Ok(taken)
    }

    /// Waits for the event with that id, but no longer than `within`; returns the ids of all that came.
    pub(super) async fn until(&mut self, id: &str, within: Duration) -> Vec<String> {
        let mut heard = Vec::new();
        let hearing = async {
            while let Some(event) = self.heard.recv().await {
                heard.push(event.id().to_owned());
                if event.id() == id {
                    return;
                }
            }
        };
        // Whether it came is in what was heard.
        let _ = tokio::time::timeout(within, hearing).await;
        heard
    }

    /// Returns what has come by now.
    pub(super) fn rest(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}
