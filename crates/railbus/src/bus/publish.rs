//! Publishing: to the backend, and where it has none of its own, to the handlers here.

use super::{
    dispatch::dispatch,
    open::{Bus, Phase},
    report::Report,
};
use std::borrow::Borrow;

use crate::{
    backend::{Broadcast, Outgoing},
    context,
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
};

/// How deep publishing inside handlers may go: far more than a design needs, few enough for any
/// stack.
const DEPTH_MAX: usize = 64;

impl Bus {
    /// Publishes one event and returns when the backend has confirmed it.
    ///
    /// On memory the matching handlers have run by then, and the report says how they fared; a
    /// handler's failure never makes publish fail.
    ///
    /// # Errors
    /// Returns an error if the event is malformed, its payload can't be encoded or is too large,
    /// the bus is closed, the backend does not confirm it, or handlers publish more than 64 deep.
    ///
    /// # Cancel safety
    /// If it is dropped, the event may or may not have been published.
    pub async fn publish(&self, event: impl IntoEvent) -> Result<Report> {
        let held = event.into_event();
        let event = Event::clone(held.borrow());
        let batch = [Outgoing::from(context::stamp(&event).unwrap_or(event))];
        let mut results = self.publish_all(&batch).await;
        let lost = || Error::new(ErrorKind::Internal, "publish", "the backend gave no result");
        results.pop().unwrap_or_else(|| Err(lost()))
    }

    /// Publishes a batch and returns one result an event, in order.
    ///
    /// # Errors
    /// Each result is as of [`Bus::publish`].
    pub async fn publish_all(&self, batch: &[Outgoing]) -> Vec<Result<Report>> {
        if let Err(e) = self.may_publish() {
            return vec![Err(e); batch.len()];
        }
        let mut results = Vec::with_capacity(batch.len());
        let most = self.0.backend.capability().batch_max;
        for part in batch.chunks(most) {
            for (outgoing, stored) in part.iter().zip(self.0.backend.publish(part).await) {
                results.push(match stored {
                    Ok(()) => Ok(self.published(outgoing).await),
                    Err(e) => Err(e),
                });
            }
        }
        results
    }

    fn may_publish(&self) -> Result<()> {
        let depth = context::depth();
        match self.phase() {
            Phase::Open => {}
            Phase::Draining if depth > 0 => {}
            _ => {
                let why = "the bus is closed";
                return Err(Error::new(ErrorKind::Closed, "publish", why)
                    .hint("publish before close; while it drains, only handlers may publish"));
            }
        }
        if depth >= DEPTH_MAX {
            let why = format!("handlers published {DEPTH_MAX} events deep");
            return Err(Error::new(ErrorKind::Overloaded, "publish", why)
                .hint("look for a handler that publishes what it handles"));
        }
        Ok(())
    }

    async fn published(&self, outgoing: &Outgoing) -> Report {
        let event = &outgoing.event;
        self.0.counters.published.one();
        if let Some(reason) = &outgoing.rejected {
            // Durable backends keep it as a dead letter; either way no handler sees it.
            tracing::warn!(event = event.id(), %reason, "an input's line is not an event");
            self.0.counters.broadcasts.rejected.one();
            return Report::default();
        }
        let inline = self.0.backend.capability().broadcast == Broadcast::Inline;
        let entries = self.0.table.matching(None, event);
        if inline {
            let running = dispatch(&entries, event, &self.0.counters, &self.0.retries);
            return self.0.tasks.track_future(running).await;
        }
        let grouped = self.0.table.snapshot();
        let grouped = grouped.iter().filter(|e| e.group.is_some() && e.wants(event)).count();
        Report { matched: entries.len() + grouped, ..Report::default() }
    }
}
