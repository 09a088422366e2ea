//! The journal of a run: what its steps came to, so that it goes on where its process died.

use crate::{
    cancel::Cancel,
    error::{Error, ErrorKind},
    journal::{self, Journal, Journaled, Record, RunLease, Told},
    step::StepError,
    task,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What is known of a run, and where what comes is kept.
pub(super) struct Log {
    journal: Arc<dyn Journal>,
    // None: the run is over, and only looked at again.
    lease: Option<RunLease>,
    state: Mutex<State>,
    // Used when someone asked for the end of the run, or it can't be kept any more.
    pub(super) cancel: Cancel,
}

#[derive(Default)]
struct State {
    known: HashMap<(String, u32), Record>,
    visits: HashMap<String, u32>,
    broken: Option<Error>,
}

/// A place in a run: a step there, and which time it is.
pub(super) struct Place {
    path: String,
    visit: u32,
}

impl Log {
    /// Takes up a run that was recorded so far.
    pub(super) fn of(
        journal: Arc<dyn Journal>,
        lease: Option<RunLease>,
        run: &Journaled,
        cancel: Cancel,
    ) -> Self {
        let place = |record: &Record| (record.path.clone(), record.visit);
        let records = run.records.iter().map(|recorded| recorded.record.clone());
        let known = records.map(|record| (place(&record), record)).collect();
        Self { journal, lease, state: Mutex::new(State { known, ..State::default() }), cancel }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Comes to a step; returns what it came to, if that is recorded.
    pub(super) fn arrive(&self, prefix: &str, step: &str) -> (Place, Option<Record>) {
        let path = format!("{prefix}{step}");
        let mut state = self.state();
        let visit = state.visits.entry(path.clone()).or_default();
        *visit += 1;
        let visit = *visit;
        let known = state.known.remove(&(path.clone(), visit));
        (Place { path, visit }, known)
    }

    /// Records what a step came to, before anything follows. What can't be recorded ends the run.
    pub(super) async fn record(&self, place: Place, mut record: Record) {
        (record.path, record.visit) = (place.path, place.visit);
        let told = match &self.lease {
            Some(lease) => self.journal.record(lease, &[record]).await,
            None => {
                let why = "the run is over, but its journal lacks a step";
                Err(Error::new(ErrorKind::Corrupt, "journal", why).with("path", record.path))
            }
        };
        self.heed(told);
    }

    /// Says that the run goes on, so that nobody else takes it over; never returns.
    pub(super) async fn keep_alive(&self) -> ! {
        let Some(lease) = &self.lease else {
            loop {
                std::future::pending::<()>().await;
            }
        };
        let pause = lease.lease / 3;
        loop {
            // Without a clock each record is the only sign of life.
            match task::sleep("journal", pause.max(Duration::from_millis(10))) {
                Ok(waiting) => waiting.await,
                Err(_) => std::future::pending().await,
            }
            let told = self.journal.renew(lease).await;
            self.heed(told);
        }
    }

    fn heed(&self, told: Result<Told, Error>) {
        match told {
            Ok(Told::GoOn) => return,
            Ok(Told::Cancel) => {}
            Err(error) => {
                let mut state = self.state();
                state.broken = state.broken.take().or(Some(error));
            }
        }
        self.cancel.cancel();
    }

    /// Returns why the run can't be kept any more, if it can't.
    pub(super) fn broken(&self) -> Option<Error> {
        self.state().broken.clone()
    }

    /// Records how the run ended.
    pub(super) async fn end(
        &self,
        how: journal::RunEnd,
        error: Option<&StepError>,
    ) -> Result<(), Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let error = error.map(|error| journal::RunError::new(error.kind(), error.line()));
        self.journal.end(lease, how, error).await
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log(of {})", self.lease.as_ref().map_or("a run that is over", |l| &l.run))
    }
}
