//! The journal of a run: what its steps came to, so that it goes on where its process died.

use super::{parts::Limits, status::CancelReason};
use crate::{
    error::{Error, ErrorKind},
    journal::{
        self, Journal, Journaled, Record, RecordStatus, RunEnd, RunLease, RunState, Told, Went,
    },
    payload::RawPayload,
    step::{Exception, StepError, StepResult},
    task,
};
use std::{
    collections::HashMap,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;

/// What is known of a run, and where what comes is kept.
pub(super) struct Log {
    journal: Arc<dyn Journal>,
    // None: the run is over, and only looked at again.
    lease: Option<RunLease>,
    // How it ended, if it is over.
    over: Option<(RunEnd, Option<journal::RunError>)>,
    state: Mutex<State>,
    // What bounds the whole run. It is cancelled when someone asked for the end of the run, or it
    // can't be kept any more.
    pub(super) limits: Limits,
}

#[derive(Default)]
struct State {
    known: HashMap<(String, u32), Record>,
    visits: HashMap<String, u32>,
    // Decisions, to be recorded with the next step: nothing that is kept rests on them before.
    decided: Vec<Record>,
    broken: Option<Error>,
    // Whether someone asked for its end.
    is_called_off: bool,
}

/// A place in a run: a step there, and which time it is.
#[derive(Clone)]
pub(super) struct Place {
    path: String,
    visit: u32,
}

impl Log {
    /// Takes up a run that was recorded so far; none if it is new.
    pub(super) fn of(
        journal: Arc<dyn Journal>,
        lease: Option<RunLease>,
        run: Option<&Journaled>,
        limits: Limits,
    ) -> Self {
        let place = |record: &Record| (record.path.clone(), record.visit);
        let records = run.iter().flat_map(|run| &run.records).map(|one| one.record.clone());
        let known = records.map(|record| (place(&record), record)).collect();
        let over = match (&lease, run.map(|run| (run.run.state, &run.run.error))) {
            (None, Some((RunState::Ended(how), error))) => Some((how, error.clone())),
            _ => None,
        };
        let is_called_off = over.is_some() && run.is_some_and(|run| run.run.cancel_asked);
        let state = Mutex::new(State { known, is_called_off, ..State::default() });
        Self { journal, lease, over, state, limits }
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

    /// Tells whether the step's next visit is recorded, or anything inside it.
    pub(super) fn knows(&self, prefix: &str, step: &str) -> bool {
        let (path, state) = (format!("{prefix}{step}"), self.state());
        let visit = state.visits.get(&path).map_or(1, |visits| visits + 1);
        let is_inside = |known: &str| {
            let rest = known.strip_prefix(&path);
            rest.is_some_and(|rest| path.ends_with('/') || rest.starts_with(['/', '#', '@', '?']))
        };
        let mut known = state.known.keys();
        known.any(|(known, time)| (*known == path && *time == visit) || is_inside(known))
    }

    /// Asks for a decision that may come out otherwise another time, unless it is recorded how it
    /// came out at this place. Tells that too.
    pub(super) fn decide(
        &self,
        prefix: &str,
        what: &str,
        ask: impl FnOnce() -> StepResult<bool>,
    ) -> (StepResult<bool>, bool) {
        let (place, known) = self.arrive(prefix, what);
        if let Some(Record { went, error, .. }) = known {
            let came = match error {
                Some(error) => Err(StepError::Exception(Exception::new(error.kind, error.message))),
                None => Ok(went == Went::Next),
            };
            return (came, true);
        }
        let came = ask();
        let mut record = Record::new("", 1);
        record.went = if matches!(came, Ok(true)) { Went::Next } else { Went::Skip };
        record.error = came.as_ref().err().map(|e| journal::RunError::new(e.kind(), e.line()));
        self.decided(place, record);
        (came, false)
    }

    /// Notes a decision, which is recorded with the next step.
    pub(super) fn decided(&self, place: Place, mut record: Record) {
        if self.lease.is_none() {
            return;
        }
        (record.path, record.visit) = (place.path, place.visit);
        (record.status, record.tries) = (RecordStatus::Decision, 0);
        self.state().decided.push(record);
    }

    /// Records what a step came to, before anything follows. What can't be recorded ends the run.
    pub(super) async fn record(&self, place: Place, mut record: Record) {
        let Some(lease) = &self.lease else { return };
        (record.path, record.visit) = (place.path, place.visit);
        let path = record.path.clone();
        let mut records = mem::take(&mut self.state().decided);
        records.push(record);
        let told = self.journal.record(lease, &records).await;
        self.heed(told.map_err(|error| match error.kind() {
            // It says already of what.
            ErrorKind::Encode | ErrorKind::TooLarge | ErrorKind::Config => error,
            _ => error.with("step", path.escape_debug()),
        }));
    }

    /// Tells whether the run is over, so that no step of it runs; what it came to is all recorded,
    /// unless it was given up.
    pub(super) fn is_over(&self) -> bool {
        self.lease.is_none()
    }

    /// Comes to a step of a run that is over that has no record.
    pub(super) fn missing(&self, place: &Place) {
        if self.given_up().is_none() {
            let why = "the run is over, but its journal lacks a step";
            let error = Error::new(ErrorKind::Corrupt, "journal", why);
            self.heed(Err(error.with("step", place.path.escape_debug())));
        } else if let Some(cancel) = &self.limits.cancel {
            cancel.cancel();
        }
    }

    /// Returns in which step a run that is over was given up, if it was in one, and why; nothing if
    /// it was not.
    pub(super) fn given_up(&self) -> Option<(Option<Arc<str>>, CancelReason)> {
        let Some((RunEnd::Cancelled, error)) = &self.over else { return None };
        let step = error.as_ref().and_then(|error| error.value.get::<String>().ok());
        let reason = CancelReason::of(error.as_ref().map_or("", |error| &error.kind));
        Some((step.map(Arc::from), reason))
    }

    /// Says that the run goes on, so that nobody else takes it over, in a task of its own: a step
    /// may hold the thread that the run is on. Ends when it is dropped.
    pub(super) fn keep_alive(self: &Arc<Self>) -> Option<AbortOnDropHandle<()>> {
        let lease = self.lease.clone()?;
        // Without a runtime each record is the only sign of life, as without a clock.
        let runtime = task::runtime("journal").ok()?;
        let log = Arc::clone(self);
        Some(AbortOnDropHandle::new(runtime.spawn(async move {
            let pause = (lease.lease / 3).max(Duration::from_millis(10));
            while let Ok(waiting) = task::sleep("journal", pause) {
                tokio::select! {
                    () = waiting => {}
                    () = log.journal.nudged(&lease.run) => {}
                }
                match log.journal.renew(&lease).await {
                    // It may go better next time, or a record tells what is wrong.
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(run = lease.run, %error, "a run's lease was not renewed");
                    }
                    told => log.heed(told),
                }
            }
        })))
    }

    fn heed(&self, told: Result<Told, Error>) {
        match told {
            Ok(Told::GoOn) => return,
            Ok(Told::Cancel) => self.state().is_called_off = true,
            Err(error) => {
                let mut state = self.state();
                state.broken = state.broken.take().or(Some(error));
            }
        }
        if let Some(cancel) = &self.limits.cancel {
            cancel.cancel();
        }
    }

    /// Tells whether someone asked for the end of the run.
    pub(super) fn is_called_off(&self) -> bool {
        self.state().is_called_off
    }

    /// Returns why the run can't be kept any more, if it can't.
    pub(super) fn broken(&self) -> Option<Error> {
        self.state().broken.clone()
    }

    /// Records how the run ended, and in which step it was given up.
    pub(super) async fn end(
        &self,
        how: RunEnd,
        error: Option<&StepError>,
        step: Option<&str>,
    ) -> Result<(), Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let error = error.map(|error| {
            let mut kept = journal::RunError::new(error.kind(), error.line());
            if let Some(step) = step {
                kept.value = RawPayload::of(step.to_owned());
            }
            kept
        });
        let decided = mem::take(&mut self.state().decided);
        if !decided.is_empty() {
            // That the end was asked for comes too late.
            let _ = self.journal.record(lease, &decided).await?;
        }
        self.journal.end(lease, how, error).await
    }

    /// Gives a run that can't be kept any more to whoever goes on with it.
    pub(super) async fn release(&self) {
        if let Some(lease) = &self.lease
            && let Err(error) = self.journal.release(lease).await
        {
            tracing::debug!(run = lease.run, %error, "a run's lease was not given back");
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log(of {})", self.lease.as_ref().map_or("a run that is over", |l| &l.run))
    }
}
