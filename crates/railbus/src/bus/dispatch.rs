//! Dispatch of broadcasts: each matching subscription in turn, whatever the others do.

use super::report::Report;
use crate::{
    consumer::{Entry, run_entry},
    delivery::{Decision, Delivery, End},
    event::Event,
    instrument::Counters,
};
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// Runs the first try of each entry; further tries are left to tasks of their own.
pub(super) async fn dispatch(
    entries: &[Arc<Entry>],
    event: &Event,
    counters: &Arc<Counters>,
    retries: &TaskTracker,
) -> Report {
    let mut report = Report { matched: entries.len(), ..Report::default() };
    counters.delivered.one();
    for entry in entries {
        // A handler before this one may have cancelled it.
        if entry.is_cancelled() {
            report.matched -= 1;
            continue;
        }
        match attempt(entry, event, 1, counters).await {
            Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
                report.failures.push((entry.name.clone(), reason));
            }
            Decision::End(_) => {}
            Decision::Again(wait, _) => {
                report.retrying += 1;
                let (entry, event) = (Arc::clone(entry), event.clone());
                let counters = Arc::clone(counters);
                retries.spawn(retry(entry, event, wait, counters));
            }
        }
    }
    report
}

async fn retry(
    entry: Arc<Entry>,
    event: Event,
    wait: std::time::Duration,
    counters: Arc<Counters>,
) {
    let (mut number, mut wait) = (1, wait);
    loop {
        tokio::time::sleep(wait).await;
        number += 1;
        if entry.is_cancelled() {
            return;
        }
        match attempt(&entry, &event, number, &counters).await {
            Decision::Again(next, _) => wait = next,
            _ => return,
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
        Decision::End(End::Unmatched) => {
            counters.unmatched.one();
            return decision;
        }
        Decision::End(End::Failed(reason) | End::Dead(reason)) | Decision::Stop(reason) => {
            counters.failed.one();
            (reason, "let go")
        }
        Decision::Again(_, reason) => {
            counters.retried.one();
            (reason, "again")
        }
    };
    let (id, kind) = (event.id(), event.event_type());
    tracing::warn!(event = id, r#type = kind, subscription = entry.name, attempt, %reason, next, "a handler failed");
    decision
}
