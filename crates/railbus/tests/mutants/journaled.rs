//! A journal around another one, which does one thing wrong.

use super::mutant::Mutant;
use async_trait::async_trait;
use railbus::{
    ErrorKind, Store,
    backend::{
        Begun, Journal, Journaled, NewRun, Record, Recorded, RunEnd, RunError, RunFilter, RunInfo,
        RunLease, RunState, Told,
    },
    error::{Error, Result},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// By run: the newest lease of all that were handed out, and whether it was of a takeover.
pub(super) type Leases = Arc<Mutex<HashMap<String, (RunLease, bool)>>>;

/// By how much a lease is too short.
const SHORTENED: u32 = 4;

#[derive(Debug)]
pub(super) struct Spoiled {
    pub(super) inner: Arc<dyn Journal>,
    pub(super) mutant: Mutant,
    pub(super) leases: Leases,
}

fn is_stale<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(|error: &Error| error.kind() == ErrorKind::Stale)
}

impl Spoiled {
    fn leases(&self) -> MutexGuard<'_, HashMap<String, (RunLease, bool)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lease that counts, whoever has it.
    fn newest(&self, lease: &RunLease) -> RunLease {
        self.leases().get(&lease.run).map_or_else(|| lease.clone(), |(newest, _)| newest.clone())
    }

    fn noted(&self, begun: Begun) -> Begun {
        if let Begun::New(lease) | Begun::Resumed(lease) = &begun {
            let is_taken = matches!(begun, Begun::Resumed(_));
            self.leases().insert(lease.run.clone(), (lease.clone(), is_taken));
        }
        begun
    }

    fn shortened(&self, lease: &RunLease) -> RunLease {
        let mut lease = lease.clone();
        if self.mutant == Mutant::TakenEarly {
            lease.lease /= SHORTENED;
        }
        lease
    }
}

#[async_trait]
impl Journal for Spoiled {
    async fn begin(&self, run: &NewRun) -> Result<Begun> {
        let mut asked = run.clone();
        if self.mutant == Mutant::TakenEarly {
            asked.lease /= SHORTENED;
        }
        let mut begun = self.noted(self.inner.begin(&asked).await?);
        match (&mut begun, self.mutant) {
            (Begun::New(lease) | Begun::Resumed(lease), Mutant::TakenEarly) => {
                lease.lease = run.lease;
            }
            (Begun::Elsewhere(_), Mutant::TakenTwice | Mutant::BegunTwice) => {
                let wanted = self.mutant == Mutant::TakenTwice;
                let held = self.leases().get(&run.id).cloned();
                match held {
                    Some((lease, true)) if wanted => begun = Begun::Resumed(lease),
                    Some((lease, false)) if !wanted => begun = Begun::New(lease),
                    _ => {}
                }
            }
            (Begun::Finished(_), Mutant::BegunAnew) => {
                let filter = RunFilter { id: Some(run.id.clone()), ..RunFilter::default() };
                self.inner.prune(&filter, Duration::ZERO).await?;
                return self.inner.begin(run).await;
            }
            _ => {}
        }
        Ok(begun)
    }

    async fn record(&self, lease: &RunLease, records: &[Record]) -> Result<Told> {
        let (lease, mut records) = (self.shortened(lease), records.to_vec());
        match self.mutant {
            Mutant::LostRecord => drop(records.pop()),
            Mutant::LostValues => {
                records.iter_mut().for_each(|record| record.values = Store::new());
            }
            _ => {}
        }
        let mut told = self.inner.record(&lease, &records).await;
        if is_stale(&told) {
            match self.mutant {
                Mutant::StaleConfirmed => told = Ok(Told::GoOn),
                Mutant::StaleRecorded => {
                    told = self.inner.record(&self.newest(&lease), &records).await;
                }
                _ => {}
            }
        }
        let refused = told.as_ref().is_err_and(|error| error.kind() == ErrorKind::Internal);
        if refused && self.mutant == Mutant::PlaceTwice {
            return Ok(Told::GoOn);
        }
        told.map(|told| if self.mutant == Mutant::UnheardCancel { Told::GoOn } else { told })
    }

    async fn renew(&self, lease: &RunLease) -> Result<Told> {
        match self.mutant {
            Mutant::ForgottenRenewal => Ok(Told::GoOn),
            Mutant::UnheardCancel => self.inner.renew(lease).await.map(|_| Told::GoOn),
            _ => self.inner.renew(&self.shortened(lease)).await,
        }
    }

    async fn release(&self, lease: &RunLease) -> Result<()> {
        match self.mutant {
            Mutant::StaleRelease => self.inner.release(&self.newest(lease)).await,
            Mutant::ForgottenRelease => Ok(()),
            _ => self.inner.release(lease).await,
        }
    }

    async fn end(&self, lease: &RunLease, how: RunEnd, error: Option<RunError>) -> Result<()> {
        let ended = self.inner.end(lease, how, error).await;
        if self.mutant == Mutant::StaleConfirmed && is_stale(&ended) { Ok(()) } else { ended }
    }

    async fn cancel(&self, id: &str) -> Result<RunState> {
        self.inner.cancel(id).await
    }

    async fn nudged(&self, id: &str) {
        self.inner.nudged(id).await;
    }

    async fn find(&self, id: &str) -> Result<Option<Journaled>> {
        self.inner.find(id).await
    }

    async fn records(&self, id: &str, after: u64, limit: usize) -> Result<Vec<Recorded>> {
        self.inner.records(id, after, limit).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunInfo>> {
        let mut filter = filter.clone();
        if self.mutant == Mutant::UnfilteredRuns {
            filter.states.clear();
        }
        self.inner.list(&filter).await
    }

    async fn prune(&self, filter: &RunFilter, older_than: Duration) -> Result<u64> {
        match self.mutant {
            Mutant::UnprunedRuns => {
                let would = self.inner.list(filter).await?;
                let ended = |run: &&RunInfo| matches!(run.state, RunState::Ended(_));
                let gone = |run: &&RunInfo| run.idle_for >= older_than;
                Ok(would.iter().filter(ended).filter(gone).count() as u64)
            }
            _ => self.inner.prune(filter, older_than).await,
        }
    }
}
