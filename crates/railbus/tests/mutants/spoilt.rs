//! A backend around another one, which claims less, or does at the edges one thing wrong.

use super::{mutant::Mutant, sent::size};
use async_trait::async_trait;
use railbus::{
    Error, ErrorKind, Event,
    backend::{
        Accounts, Backend, Capability, GroupInfo, Journal, Keeper, Leased, Letter, LetterFilter,
        LetterId, Ordering, Outgoing, Patterns, Receipt, Settle, Source, Start, Subscribe, Verdict,
    },
    error::Result,
    predicate::Interest,
};
use std::{
    fmt,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::sleep;

/// Longer than a call may take beside a lease.
const SLOW: Duration = Duration::from_millis(250);

/// Longer than an event may be late, and than a close may take with a deadline of seconds.
const LATE: Duration = Duration::from_millis(2500);
const LATE_CLOSE: Duration = Duration::from_secs(11);

/// What is leased by somebody, and where it was leased.
type Held = Vec<(Arc<dyn Source>, Receipt)>;

/// What all connections of a mutant share.
#[derive(Default)]
pub(crate) struct Shared {
    // Whether something was lost that is lost once.
    lost: AtomicBool,
    held: Mutex<Held>,
}

pub(crate) struct Spoilt {
    inner: Arc<dyn Backend>,
    mutant: Mutant,
    capability: Capability,
    used: AtomicBool,
    shared: Arc<Shared>,
}

impl fmt::Debug for Spoilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spoilt").field(&self.inner).finish()
    }
}

impl Spoilt {
    pub(crate) fn new(inner: Arc<dyn Backend>, mutant: Mutant, shared: Arc<Shared>) -> Self {
        let mut capability = inner.capability().clone();
        match mutant {
            Mutant::NoPatterns => capability.patterns = Patterns::None,
            Mutant::NoExtension => capability.extends = false,
            Mutant::NoOrder => capability.ordering = Ordering::None,
            _ => {}
        }
        Self { inner, mutant, capability, used: AtomicBool::new(false), shared }
    }

    fn kept(&self) -> &dyn Keeper {
        self.inner.keeper().unwrap()
    }
}

/// Tells whether a publisher is one of those that fail in the middle.
fn fails(outgoing: &Outgoing) -> bool {
    let late = outgoing.event.raw_payload().get::<usize>().is_ok_and(|n| n >= 20);
    late && outgoing.event.topic().ends_with("shared")
}

#[async_trait]
impl Backend for Spoilt {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        self.used.store(true, SeqCst);
        match self.mutant {
            Mutant::HangingPublish => pending().await,
            Mutant::LostOnce if batch.len() > 1 && !self.shared.lost.swap(true, SeqCst) => {
                // sleep: a slow machine, which the loss must not be blamed on.
                sleep(SLOW).await;
                let mut results = self.inner.publish(&batch[1..]).await;
                results.insert(0, Ok(()));
                results
            }
            Mutant::PublisherFails if batch.iter().any(fails) => {
                let error = Error::new(ErrorKind::Unavailable, "publish", "too many connections");
                vec![Err(error); batch.len()]
            }
            Mutant::TooLargeStored => {
                let results = self.inner.publish(batch).await;
                let max = self.capability.payload_max;
                for large in batch.iter().filter(|outgoing| size(&outgoing.event) > max) {
                    let mut map = large.event.to_map().unwrap();
                    map.insert("payload".into(), "cut".into());
                    let cut = Event::from_map(&map).unwrap();
                    self.inner.publish(&[cut.into()]).await;
                }
                results
            }
            _ => self.inner.publish(batch).await,
        }
    }

    fn publish_now(&self, event: &Event) -> Option<Result<()>> {
        match self.mutant {
            Mutant::LyingNow => Some(Ok(())),
            _ => self.inner.publish_now(event),
        }
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        self.used.store(true, SeqCst);
        if self.mutant == Mutant::HangingSubscribe {
            return pending().await;
        }
        let inner = self.inner.subscribe(request).await?;
        let (mutant, shared) = (self.mutant, Arc::clone(&self.shared));
        Ok(Arc::new(SpoiltSource { inner, mutant, shared, capability: self.capability.clone() }))
    }

    fn encodes(&self) -> bool {
        self.inner.encodes()
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        match self.mutant {
            Mutant::IdleAtOnce => Ok(()),
            _ => self.inner.settled(groups).await,
        }
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        self.inner.withdraw(event_id).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        if self.mutant == Mutant::LateClose && self.used.load(SeqCst) {
            // sleep: it is what is wrong with it.
            sleep(LATE_CLOSE).await;
        }
        self.inner.close(deadline).await
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.inner.keeper().map(|_| self as &dyn Keeper)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.inner.accounts()
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.inner.journal()
    }
}

#[async_trait]
impl Keeper for Spoilt {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.kept().groups().await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        let pruned = self.kept().prune(group).await;
        if self.mutant == Mutant::PrunesAnything { Ok(()) } else { pruned }
    }

    async fn replay(&self, group: &str, start: Start) -> Result<u64> {
        if self.mutant == Mutant::ReplayTakes {
            let held = std::mem::take(&mut *self.shared.held.lock().unwrap());
            for (source, receipt) in held {
                let delay = Duration::ZERO;
                source.settle(&[Settle::new(receipt, Verdict::Release { delay })]).await;
            }
        }
        self.kept().replay(group, start).await
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        let group = filter.group.clone();
        let all = LetterFilter { group, ..LetterFilter::default() };
        let filter = if self.mutant == Mutant::UnfilteredLetters { &all } else { filter };
        self.kept().letters(filter).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        self.kept().redrive(ids).await
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        match self.mutant {
            Mutant::PurgedBack => self.kept().redrive(ids).await,
            _ => self.kept().purge(ids).await,
        }
    }
}

struct SpoiltSource {
    inner: Arc<dyn Source>,
    mutant: Mutant,
    capability: Capability,
    shared: Arc<Shared>,
}

#[async_trait]
impl Source for SpoiltSource {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut leased = self.inner.fetch(max).await?;
        match self.mutant {
            Mutant::ForgottenOnly => leased.iter_mut().for_each(|l| l.only = None),
            Mutant::NoOrder => leased.reverse(),
            // sleep: it is what is wrong with it.
            Mutant::LateFetch if !leased.is_empty() => sleep(LATE).await,
            Mutant::ReplayTakes => {
                let of = |l: &Leased| (Arc::clone(&self.inner), l.receipt.clone());
                self.shared.held.lock().unwrap().extend(leased.iter().map(of));
            }
            _ => {}
        }
        Ok(leased)
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        let extends = |settle: &Settle| matches!(settle.verdict, Verdict::Extend { .. });
        if self.mutant == Mutant::NoExtension && batch.iter().any(extends) {
            let error =
                self.capability.refuse("settle", "extends no leases", &["sqlite", "memory"]);
            return vec![Err(error); batch.len()];
        }
        self.inner.settle(batch).await
    }

    async fn handed_out(&self) -> Result<Option<u64>> {
        match self.mutant {
            Mutant::BusyForEver => Ok(None),
            _ => self.inner.handed_out().await,
        }
    }

    async fn gap(&self) {
        match self.mutant {
            Mutant::SilentGap => pending().await,
            _ => self.inner.gap().await,
        }
    }

    fn stop(&self) {
        self.inner.stop();
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
