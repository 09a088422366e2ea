//! Dispatch of broadcasts: each matching subscription in turn, whatever the others do.

use super::report::Report;
use crate::{
    consumer::{Entry, run_entry},
    delivery::{Decision, Delivery, End},
    event::Event,
    instrument::Counters,
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio_util::task::TaskTracker;

/// Runs the first try of each entry; further tries are left to a task of their own.
pub(super) async fn dispatch(
    entries: &[Arc<Entry>],
    event: &Event,
    counters: &Arc<Counters>,
    retries: &TaskTracker,
) -> Report {
    let mut report = Report { matched: entries.len(), ..Report::default() };
    let (mut worst, mut again) = (Worst::Unmatched, Vec::new());
    if !entries.is_empty() {
        counters.delivered.one();
    }
    for entry in entries {
        // A handler before this one may have cancelled it.
        if entry.is_cancelled() {
            report.matched -= 1;
            continue;
        }
        let decision = attempt(entry, event, 1, counters).await;
        worst = worst.max(Worst::of(&decision));
        match decision {
            Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
                report.failures.push((entry.name.clone(), reason));
            }
            Decision::End(_) => {}
            Decision::Again(wait, _) => {
                report.retrying += 1;
                again.push((Arc::clone(entry), wait));
            }
        }
    }
    if again.is_empty() {
        worst.count(counters);
    } else {
        let (event, counters) = (event.clone(), Arc::clone(counters));
        retries.spawn(async move {
            let tries = again.into_iter().map(|(e, wait)| retry(e, &event, wait, &counters));
            let worst = join_all(tries).await.into_iter().fold(worst, Worst::max);
            counters.broadcasts.retried.one();
            worst.count(&counters);
        });
    }
    report
}

/// What became of an event over all its broadcast subscriptions, worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worst {
    Unmatched,
    Succeeded,
    Failed,
}

impl Worst {
    fn of(decision: &Decision) -> Self {
        match decision {
            // What is tried again is not known yet, and no worse than nothing.
            Decision::End(End::Unmatched) | Decision::Again(..) => Self::Unmatched,
            Decision::End(End::Done) => Self::Succeeded,
            _ => Self::Failed,
        }
    }

    pub(super) fn count(self, counters: &Counters) {
        let events = &counters.broadcasts;
        match self {
            Self::Unmatched => events.unmatched.one(),
            Self::Succeeded => events.succeeded.one(),
            Self::Failed => events.failed.one(),
        }
    }
}

async fn retry(entry: Arc<Entry>, event: &Event, wait: Duration, counters: &Counters) -> Worst {
    let (mut number, mut wait) = (1, wait);
    loop {
        tokio::time::sleep(wait).await;
        number += 1;
        if entry.is_cancelled() {
            return Worst::Failed;
        }
        match attempt(&entry, event, number, counters).await {
            Decision::Again(next, _) => wait = next,
            decision => return Worst::of(&decision),
        }
    }
}

/// Runs one try and counts what it came to. Nothing is stored for a broadcast, so what would be a
/// dead letter is a failure.
async fn attempt(entry: &Entry, event: &Event, attempt: u32, counters: &Counters) -> Decision {
    let delivery = Delivery { event: event.clone(), attempt, group: None, marks: Arc::default() };
    let decision = entry.policy.decide(run_entry(entry, &delivery).await, attempt);
    let (reason, next) = match &decision {
        Decision::End(End::Done) => {
            counters.succeeded.one();
            return decision;
        }
        Decision::End(End::Unmatched) => return decision,
        Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
            counters.failed.one();
            (reason, "let go".to_owned())
        }
        Decision::Again(wait, reason) => {
            counters.retried.one();
            (reason, format!("again in {wait:?}"))
        }
    };
    tracing::warn!(
        event = event.id(),
        r#type = event.event_type(),
        subscription = entry.name,
        attempt,
        %reason,
        next,
        "a handler failed"
    );
    decision
}
