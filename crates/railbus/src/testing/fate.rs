//! A backend around a backend, whose calls may go otherwise than they should.

use crate::{
    backend::{
        Accounts, Backend, Capability, Journal, Keeper, Leased, Outgoing, Receipt, Settle, Source,
        Subscribe, Verdict,
    },
    error::{Error, Result},
    event::Event,
    predicate::Interest,
};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::{
    collections::HashSet,
    fmt,
    future::{Future, pending},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Which calls of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Publishing, each event for itself.
    Publish,
    Fetch,
    /// Settling, each delivery for itself.
    Settle,
    /// Renewing a lease.
    Renew,
}

/// What befalls a call.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Nothing is done, and an error says so.
    Fail(Error),
    /// It is done, and an error says that it may not be.
    Lose(Error),
    /// Nothing is done, and nobody says so.
    Forget,
    /// It is done later.
    Delay(Duration),
    /// It waits until nothing befalls calls any more.
    Hang,
    /// It is done twice: published again, or delivered again.
    Twice,
}

/// What was done, for those who keep a history: simulations.
#[cfg_attr(not(feature = "testing"), expect(dead_code, reason = "only simulations listen"))]
pub(super) enum Done<'a> {
    Published(&'a Event, &'a Result<()>),
    Leased(&'a str, &'a Leased),
    Settled(&'a str, &'a Settle, &'a Result<()>),
    Withdrawn(&'a str),
}

/// Who decides what befalls calls.
pub(super) trait Fate: Send + Sync + fmt::Debug + 'static {
    /// Decides about the next call.
    fn befalls(&self, door: Door) -> Option<Act>;

    /// Waits until something else is to befall a fetch that waits for events.
    fn planned(&self) -> BoxFuture<'static, ()> {
        Box::pin(pending())
    }

    /// Tells whether nothing befalls the next publish, so that it need not wait.
    fn is_now(&self) -> bool;

    /// Tells whether publishing must come by here, even if no group wants the event.
    fn takes_part(&self) -> bool;

    /// Waits until nothing befalls calls any more.
    fn healed(&self) -> BoxFuture<'_, ()>;

    /// Hears what was done.
    fn hear(&self, done: &Done<'_>) {
        let _ = done;
    }

    /// Waits until the process is no more: none of its calls ends after that.
    fn gone(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }
}

/// A backend at the mercy of a fate.
#[derive(Debug)]
pub(super) struct Fated {
    pub(super) inner: Arc<dyn Backend>,
    pub(super) fate: Arc<dyn Fate>,
}

/// Does what is to be done while the process is there; after that nothing ever ends.
async fn alive<T>(fate: &dyn Fate, work: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = fate.gone() => {}
        done = work => return done,
    }
    pending().await
}

impl Fated {
    async fn publish_all(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let results = self.inner.publish(batch).await;
        for (outgoing, result) in batch.iter().zip(&results) {
            self.fate.hear(&Done::Published(&outgoing.event, result));
        }
        results
    }

    async fn publish_one(&self, outgoing: &Outgoing, act: Option<Act>) -> Result<()> {
        let batch = std::slice::from_ref(outgoing);
        let publish = async || self.publish_all(batch).await.pop().unwrap_or(Ok(()));
        match act {
            None => publish().await,
            Some(Act::Fail(error)) => Err(error),
            Some(Act::Lose(error)) => publish().await.and(Err(error)),
            Some(Act::Forget) => Ok(()),
            Some(Act::Delay(wait)) => {
                sleep(wait).await;
                publish().await
            }
            Some(Act::Hang) => {
                self.fate.healed().await;
                publish().await
            }
            Some(Act::Twice) => publish().await.and(publish().await),
        }
    }
}

#[async_trait]
impl Backend for Fated {
    fn capability(&self) -> &Capability {
        self.inner.capability()
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let acts: Vec<_> = batch.iter().map(|_| self.fate.befalls(Door::Publish)).collect();
        let publishing = async {
            if acts.iter().all(Option::is_none) {
                return self.publish_all(batch).await;
            }
            let mut results = Vec::with_capacity(batch.len());
            for (outgoing, act) in batch.iter().zip(acts) {
                results.push(self.publish_one(outgoing, act).await);
            }
            results
        };
        alive(&*self.fate, publishing).await
    }

    fn publish_now(&self, event: &Event) -> Option<Result<()>> {
        let published = self.fate.is_now().then(|| self.inner.publish_now(event)).flatten();
        if let Some(result) = &published {
            self.fate.hear(&Done::Published(event, result));
        }
        published
    }

    fn collects(&self) -> bool {
        self.fate.takes_part() || self.inner.collects()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let group = request.group.clone().unwrap_or_default();
        let inner = self.inner.subscribe(request).await?;
        Ok(Arc::new(FatedSource {
            inner,
            group,
            fate: Arc::clone(&self.fate),
            again: Mutex::default(),
            stopped: CancellationToken::new(),
        }))
    }

    fn encodes(&self) -> bool {
        self.inner.encodes()
    }

    fn is_bare(&self) -> bool {
        self.inner.is_bare()
    }

    fn keeps_metadata(&self) -> bool {
        self.inner.keeps_metadata()
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        self.inner.settled(groups).await
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        let withdrawn = self.inner.withdraw(event_id).await?;
        if withdrawn {
            self.fate.hear(&Done::Withdrawn(event_id));
        }
        Ok(withdrawn)
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.inner.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.inner.keeper()
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.inner.journal()
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.inner.accounts()
    }
}

struct FatedSource {
    inner: Arc<dyn Source>,
    group: String,
    fate: Arc<dyn Fate>,
    // Deliveries that come again, whatever they come to.
    again: Mutex<HashSet<Receipt>>,
    stopped: CancellationToken,
}

impl FatedSource {
    async fn fetch_at_mercy(&self, max: usize) -> Result<Vec<Leased>> {
        loop {
            let planned = self.fate.planned();
            if let Some(act) = self.fate.befalls(Door::Fetch) {
                return self.fetch_as(max, act).await;
            }
            tokio::select! {
                biased;
                () = planned => {}
                leased = self.inner.fetch(max) => return leased,
            }
        }
    }

    async fn fetch_as(&self, max: usize, act: Act) -> Result<Vec<Leased>> {
        match act {
            Act::Forget => self.inner.fetch(max).await,
            Act::Fail(error) => Err(error),
            Act::Lose(error) => match self.inner.fetch(max).await? {
                stopped if stopped.is_empty() => Ok(stopped),
                // What it leased comes again when the leases end.
                _ => Err(error),
            },
            Act::Delay(wait) => {
                let leased = self.inner.fetch(max).await?;
                self.stopped.run_until_cancelled(sleep(wait)).await;
                Ok(leased)
            }
            Act::Hang => {
                self.stopped.run_until_cancelled(self.fate.healed()).await;
                self.inner.fetch(max).await
            }
            Act::Twice => {
                let leased = self.inner.fetch(max).await?;
                let receipts = leased.iter().map(|leased| leased.receipt.clone());
                self.again.lock().unwrap_or_else(PoisonError::into_inner).extend(receipts);
                Ok(leased)
            }
        }
    }

    async fn settle_one(&self, settle: &Settle) -> Result<()> {
        let renews = matches!(settle.verdict, Verdict::Extend { .. });
        let door = if renews { Door::Renew } else { Door::Settle };
        let act = self.fate.befalls(door);
        let again = !renews
            && self.again.lock().unwrap_or_else(PoisonError::into_inner).remove(&settle.receipt);
        let done = async |settle: &Settle| {
            let batch = std::slice::from_ref(settle);
            let result = self.inner.settle(batch).await.pop().unwrap_or(Ok(()));
            self.fate.hear(&Done::Settled(&self.group, settle, &result));
            result
        };
        match act {
            None if again => done(&anew(settle)).await,
            None => done(settle).await,
            Some(Act::Fail(error)) => Err(error),
            Some(Act::Lose(error)) => done(settle).await.and(Err(error)),
            Some(Act::Forget) => Ok(()),
            Some(Act::Delay(wait)) => {
                sleep(wait).await;
                done(settle).await
            }
            Some(Act::Hang) => {
                self.fate.healed().await;
                done(settle).await
            }
            Some(Act::Twice) => done(&anew(settle)).await,
        }
    }
}

/// Returns how a delivery is settled whose end is forgotten, so that it comes again at once.
fn anew(settle: &Settle) -> Settle {
    match settle.verdict {
        Verdict::Ack => {
            Settle::new(settle.receipt.clone(), Verdict::Nack { delay: Duration::ZERO })
        }
        _ => settle.clone(),
    }
}

#[async_trait]
impl Source for FatedSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let fetched = alive(&*self.fate, self.fetch_at_mercy(max)).await;
        for leased in fetched.iter().flatten() {
            self.fate.hear(&Done::Leased(&self.group, leased));
        }
        fetched
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        for settle in batch {
            results.push(alive(&*self.fate, self.settle_one(settle)).await);
        }
        results
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        self.inner.handed_out().await
    }

    async fn gap(&self) {
        self.inner.gap().await;
    }

    fn stop(&self) {
        self.stopped.cancel();
        self.inner.stop();
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
