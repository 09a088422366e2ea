//! Settling in batches: what many deliveries decide within the same moment goes out as one.

use crate::{
    backend::{Receipt, Settle, Source, Verdict},
    error::{Error, ErrorKind, Result},
};
use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};

/// How many settlements one call takes.
const BATCH_MAX: usize = 512;

/// How soon a settlement is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How long a settlement is tried again before the lease is left to run out.
const PATIENCE: [Duration; 5] = [
    AGAIN_AFTER,
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

struct Job {
    settle: Settle,
    /// Whether it is tried again if it fails for reasons that may pass.
    patient: bool,
    reply: oneshot::Sender<Result<()>>,
}

/// A handle to the task that settles; the task ends when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Settler(mpsc::UnboundedSender<Job>);

impl Settler {
    // Unbounded in type only: there is at most one settlement a delivery in flight, and one renewal
    // a lease at a time, and both are bounded by the group's credit.
    pub(super) fn start(source: Arc<dyn Source>) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        tokio::spawn(run(source, queue));
        Self(jobs)
    }

    /// Settles and returns what the backend said; `Stale` if the lease was lost.
    ///
    /// # Cancel safety
    /// It is settled even if the caller stops waiting.
    pub(super) async fn settle(&self, settle: Settle) -> Result<()> {
        self.ask(settle, true).await
    }

    /// Keeps a lease for another of its times; asked once, for it is soon asked again.
    pub(super) async fn renew(&self, receipt: Receipt) -> Result<()> {
        self.ask(Settle::new(receipt, Verdict::Extend { tries: 0 }), false).await
    }

    async fn ask(&self, settle: Settle, patient: bool) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let closed = || Error::new(ErrorKind::Closed, "settle", "the subscription is closed");
        self.0.send(Job { settle, patient, reply }).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

async fn run(source: Arc<dyn Source>, mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut jobs = Vec::new();
    while queue.recv_many(&mut jobs, BATCH_MAX).await > 0 {
        let jobs = jobs.drain(..).map(|job| (job.settle, (job.patient, job.reply)));
        let (batch, replies): (Vec<_>, Vec<_>) = jobs.unzip();
        let results = results(&*source, &batch).await;
        let mut again = Vec::new();
        for ((settle, (patient, reply)), result) in batch.into_iter().zip(replies).zip(results) {
            match result {
                Err(error) if patient && error.is_retryable() => again.push((settle, reply)),
                // Nobody waits for some, such as renewals of what is settled by now.
                result => drop(reply.send(result)),
            }
        }
        if !again.is_empty() {
            // By themselves: nothing else waits until they are through, renewals least of all.
            tokio::spawn(try_again(Arc::clone(&source), again));
        }
    }
}

async fn try_again(source: Arc<dyn Source>, failed: Vec<(Settle, oneshot::Sender<Result<()>>)>) {
    let (batch, replies): (Vec<_>, Vec<_>) = failed.into_iter().unzip();
    let mut replies: Vec<_> = replies.into_iter().map(Some).collect();
    tokio::time::sleep(AGAIN_AFTER).await;
    let reply = |at: usize, result| {
        let reply = replies.get_mut(at).and_then(Option::take);
        drop(reply.map(|reply: oneshot::Sender<_>| reply.send(result)));
    };
    settle_all(&*source, batch, reply).await;
}

/// Settles a batch and tells what came of each, by its place; what fails for reasons that may pass
/// is tried again.
pub(super) async fn settle_all(
    source: &dyn Source,
    mut batch: Vec<Settle>,
    mut tell: impl FnMut(usize, Result<()>),
) {
    // None: as it came.
    let mut places: Option<Vec<usize>> = None;
    for patience in PATIENCE.iter().map(Some).chain([None]) {
        let results = results(source, &batch).await;
        let mut open = Vec::new();
        for (i, result) in results.into_iter().enumerate() {
            let place = places.as_ref().and_then(|places| places.get(i)).map_or(i, |at| *at);
            match (result, patience) {
                (Err(e), Some(_)) if e.is_retryable() => open.push((i, place)),
                (result, _) => tell(place, result),
            }
        }
        let (Some(wait), false) = (patience, open.is_empty()) else { return };
        batch = open.iter().filter_map(|(i, _)| batch.get(*i).cloned()).collect();
        places = Some(open.into_iter().map(|(_, place)| place).collect());
        tokio::time::sleep(*wait).await;
    }
}

/// Settles a batch once; there is a result for each, whatever the source does.
async fn results(source: &dyn Source, batch: &[Settle]) -> Vec<Result<()>> {
    let broken = |why: &'static str| Err(Error::new(ErrorKind::Internal, "settle", why));
    let settling = AssertUnwindSafe(source.settle(batch)).catch_unwind().await;
    let mut results = settling.unwrap_or_else(|_| vec![broken("the source panicked"); batch.len()]);
    results.resize_with(batch.len(), || broken("the source gave no result"));
    results
}
