//! Durable runs: begun under an id, gone on with where they were left, refused if the graph is
//! another one.

use super::{lane::Cause, log::Log, parts::Pipeline};
use crate::{
    cancel::Cancel,
    error::{Error, ErrorKind, Result},
    event::Event,
    id::{derived_id, new_id},
    journal::{Begun, Journal, NewRun, RunEnd, RunInfo, RunLease, RunState},
    step::Store,
};
use std::{sync::Arc, time::Duration};

/// How long a run is held without a sign of life, unless it says otherwise.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// The name by which the event that caused a run is kept with what the run was given. No step can
/// have it.
const EVENT: &str = "railbus:event";

/// How often a run for an event begins anew under another id: more than any policy tries.
const AGAIN_MAX: u32 = 1_000;

/// Where a run is kept, and under which id.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    pub(super) journal: Arc<dyn Journal>,
    // None: that of the event, else a new one.
    pub(super) id: Option<String>,
    pub(super) lease: Duration,
    // Whether the run must be there already.
    pub(super) is_resumed: bool,
}

/// A run that is kept, as it begins or goes on.
pub(super) struct Opened {
    pub(super) id: String,
    pub(super) log: Log,
    pub(super) store: Store,
    // What caused it, also where it goes on without.
    pub(super) event: Option<Event>,
}

impl Durable {
    /// Begins a run, or takes up one that was left or is over.
    ///
    /// # Errors
    /// Returns what the journal says; a stale error if someone else runs it; a changed error that
    /// shows the difference if its graph was another one.
    pub(super) async fn open(
        &self,
        pipeline: &Pipeline,
        mut store: Store,
        cause: Cause<'_>,
        cancel: Cancel,
    ) -> Result<Opened> {
        if let Some(event) = cause.event {
            store.set(EVENT, event.clone());
        }
        let named = |e: Error| e.with("pipeline", pipeline.name());
        let (first, is_event) = match (&self.id, cause.event) {
            (Some(id), _) => (id.clone(), false),
            (None, Some(event)) => (format!("{}:{}", pipeline.name(), event.id()), true),
            (None, None) => (new_id(), false),
        };
        let mut id = first.clone();
        for again in 2..AGAIN_MAX {
            if self.is_resumed && self.journal.find(&id).await.map_err(named)?.is_none() {
                let error = Error::new(ErrorKind::NotFound, "resume", "there is no such run");
                return Err(named(error).with("run", &id));
            }
            match self.begin(pipeline, &id, &store).await.map_err(named)? {
                // The event comes again, since the run for it did not succeed: this is another run.
                Held::Over(RunEnd::Failure | RunEnd::Exception | RunEnd::Cancelled) if is_event => {
                    id = format!("{first}#{again}");
                }
                Held::Over(_) => {
                    return self.opened(pipeline, id, None, cancel).await.map_err(named);
                }
                Held::Ours(lease) => {
                    return self.opened(pipeline, id, Some(lease), cancel).await.map_err(named);
                }
            }
        }
        let error = Error::new(ErrorKind::Overloaded, "journal", "the event has too many runs");
        Err(named(error).with("run", first))
    }

    async fn begin(&self, pipeline: &Pipeline, id: &str, store: &Store) -> Result<Held> {
        let shape = pipeline.shape();
        let mut run = NewRun::new(id, pipeline.name(), &**shape);
        run.version = derived_id("railbus.shape", shape).chars().take(8).collect();
        (run.input, run.lease) = (store.clone(), self.lease);
        run.owner = format!("process {}", std::process::id());
        match self.journal.begin(&run).await? {
            Begun::New(lease) | Begun::Resumed(lease) => Ok(Held::Ours(lease)),
            Begun::Finished(RunInfo { state: RunState::Ended(how), .. }) => Ok(Held::Over(how)),
            Begun::Elsewhere(other) => {
                let error = Error::new(ErrorKind::Stale, "journal", "someone else runs it");
                let left = other.lease_left;
                let hint =
                    format!("it can be taken over in {left:?}, unless it shows a sign of life");
                Err(error.with("run", id).with("owner", other.owner).hint(hint))
            }
            Begun::OtherShape { shape: before, .. } => Err(other_graph(id, &before, shape)),
            other => {
                let why = format!("the journal says what is not known here: {other:?}");
                Err(Error::new(ErrorKind::Internal, "journal", why).with("run", id))
            }
        }
    }

    async fn opened(
        &self,
        pipeline: &Pipeline,
        id: String,
        lease: Option<RunLease>,
        cancel: Cancel,
    ) -> Result<Opened> {
        let Some(run) = self.journal.load(&id).await? else {
            let error = Error::new(ErrorKind::NotFound, "journal", "the run is gone");
            return Err(error.with("run", id));
        };
        if *run.shape != **pipeline.shape() {
            return Err(other_graph(&id, &run.shape, pipeline.shape()));
        }
        let log = Log::of(Arc::clone(&self.journal), lease, &run, cancel);
        let mut store = run.input;
        let event = store.value(EVENT).map(|event| event.get::<Event>()).transpose()?;
        store.delete(EVENT);
        Ok(Opened { id, log, store, event })
    }
}

/// Whose a run is.
enum Held {
    Ours(RunLease),
    Over(RunEnd),
}

fn other_graph(id: &str, before: &str, now: &str) -> Error {
    let why = format!("the run was begun with another graph:\n{}", difference(before, now));
    let error = Error::new(ErrorKind::Changed, "journal", why).with("run", id);
    error.hint("go on with the program that began it, or cancel it: railbus runs cancel")
}

/// Shows what one text has and another has not, line by line.
fn difference(before: &str, now: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}"));
    let lines: Vec<String> = gone.chain(come).collect();
    match lines.is_empty() {
        true => "the same steps in another order".into(),
        false => lines.join("\n"),
    }
}
