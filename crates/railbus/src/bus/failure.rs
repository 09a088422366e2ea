//! What follows when a broadcast's handler fails.

use crate::{
    consumer::{Entry, run_entry},
    context::trace_id,
    delivery::{Decision, Delivery, End, Marks, Outcome},
    event::{Event, Type},
    instrument::Counters,
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// A try that failed, to be told to who listens for failures.
pub(super) struct Failed {
    subscription: String,
    event_id: String,
    event_type: String,
    correlation_id: String,
    trace_id: Option<String>,
    attempt: u32,
    reason: String,
    again: Option<Duration>,
}

impl Failed {
    pub(super) fn new(
        entry: &Entry,
        event: &Event,
        attempt: u32,
        reason: String,
        again: Option<Duration>,
    ) -> Self {
        Self {
            subscription: entry.name.to_string(),
            event_id: event.id().into(),
            event_type: event.event_type().into(),
            correlation_id: event.correlation_id().into(),
            trace_id: trace_id(event.metadata()),
            attempt,
            reason,
            again,
        }
    }

    /// Writes it to the log.
    pub(super) fn log(&self) {
        let next = match self.again {
            Some(wait) => format!("again in {wait:?}"),
            None => "let go".into(),
        };
        tracing::warn!(
            event_id = self.event_id,
            event_type = self.event_type,
            correlation_id = self.correlation_id,
            trace_id = self.trace_id,
            subscription = self.subscription,
            attempt = self.attempt,
            reason = self.reason,
            next,
            "a handler failed"
        );
    }

    /// Counts it.
    pub(super) fn count(&self, counters: &Counters) {
        match self.again {
            Some(_) => counters.retried.one(),
            None => counters.failed.one(),
        }
    }

    /// Tells whether it happened while such a failure was being told: that is only logged.
    pub(super) fn is_of_failure(&self) -> bool {
        self.event_type == Type::HANDLER_ERROR
    }

    /// Makes the event that tells of it.
    pub(super) fn into_event(self) -> Event {
        Event::new(Type::HANDLER_ERROR)
            .source(&self.subscription)
            .correlation(self.correlation_id)
            .causation(self.event_id.clone())
            .payload(json!({
                "event_id": self.event_id,
                "type": self.event_type,
                "subscription": self.subscription,
                "error": self.reason,
                "attempt": self.attempt,
                "again_in": self.again.map(|wait| wait.as_secs_f64()),
            }))
    }
}

/// Makes the further tries of one subscription, until it is through with the event.
pub(super) async fn settle(
    entry: Arc<Entry>,
    event: &Event,
    mut wait: Duration,
    counters: Option<&Counters>,
    tell: &(dyn Fn(Failed) + Sync),
) -> Decision {
    let mut attempt = 1;
    loop {
        tokio::time::sleep(wait).await;
        attempt += 1;
        if entry.is_cancelled() {
            return Decision::End(End::Failed("cancelled".into()));
        }
        let delivery =
            Delivery { event: event.clone(), attempt, group: None, marks: Marks::default() };
        let outcome = run_entry(&entry, &delivery).await.decided().await;
        let decision = entry.policy.decide(outcome, attempt);
        match take_down(&entry, event, attempt, &decision, counters, tell) {
            Some(next) => wait = next,
            None => return decision,
        }
    }
}

/// Waits for the outcome of a batch and makes the further tries of what failed in it; tells whether
/// there were any.
pub(super) async fn decide(
    entry: Arc<Entry>,
    event: &Event,
    outcome: Outcome,
    counters: Option<&Counters>,
    tell: &(dyn Fn(Failed) + Sync),
) -> (Decision, bool) {
    let decision = entry.policy.decide(outcome.decided().await, 1);
    match take_down(&entry, event, 1, &decision, counters, tell) {
        Some(wait) => (settle(entry, event, wait, counters, tell).await, true),
        None => (decision, false),
    }
}

/// Counts and tells what a try came to; returns the wait before the next one, if there is one.
fn take_down(
    entry: &Entry,
    event: &Event,
    attempt: u32,
    decision: &Decision,
    counters: Option<&Counters>,
    tell: &(dyn Fn(Failed) + Sync),
) -> Option<Duration> {
    let (reason, again) = match decision {
        Decision::End(End::Done) => {
            if let Some(counters) = counters {
                counters.succeeded.one();
            }
            return None;
        }
        Decision::End(End::Unmatched) => return None,
        Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
            (reason, None)
        }
        Decision::Again(next, reason) => (reason, Some(*next)),
    };
    tell(Failed::new(entry, event, attempt, reason.clone(), again));
    again
}
