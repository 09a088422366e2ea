//! Durable runs: begun under an id, gone on with where they were left, refused if the graph is
//! another one.

use super::{
    lane::Cause,
    log::Log,
    parts::{Limits, Pipeline},
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::Event,
    id::{derived_id, new_id},
    journal::{Begun, Journal, NewRun, RunEnd, RunInfo, RunLease, RunState},
    step::Store,
    task,
};
use std::{
    collections::HashSet,
    env, fs, process,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// How long a run is held without a sign of life, unless it says otherwise.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// The name by which the event that caused a run is kept with what the run was given. No step can
/// have it.
const EVENT: &str = "railbus:event";

/// How many steps, and lines of them, the difference between two graphs shows.
const SHOWN_MAX: usize = 40;

/// How often a run for an event begins anew under another id: more than any policy tries.
const AGAIN_MAX: u32 = 1_000;

/// How often whoever waits for a run looks whether it can be had.
const LOOK_MIN: Duration = Duration::from_millis(10);
const LOOK_MAX: Duration = Duration::from_millis(500);

/// Where a run is kept, and under which id.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    pub(super) journal: Arc<dyn Journal>,
    // None: that of the event, else a new one.
    pub(super) id: Option<String>,
    pub(super) lease: Duration,
    // Whether the run must be there already.
    pub(super) is_resumed: bool,
    // Whether it waits for a run that someone else holds.
    pub(super) waits: bool,
}

/// A run that is kept, as it begins or goes on.
pub(super) struct Opened {
    pub(super) id: String,
    pub(super) log: Arc<Log>,
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
        limits: &Limits,
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
        let (mut id, mut again) = (first.clone(), 1);
        while again < AGAIN_MAX {
            if self.is_resumed && !self.is_there(&id).await.map_err(named)? {
                let error = Error::new(ErrorKind::NotFound, "resume", "there is no such run");
                return Err(named(error).with("run", &id));
            }
            match self.begin(pipeline, &id, &store).await.map_err(named)? {
                // The event comes again, since the run for it did not succeed: this is another run.
                Held::Over(
                    RunEnd::Failure | RunEnd::Exception | RunEnd::Cancelled,
                    is_called_off,
                ) if is_event => {
                    let next = format!("{first}#{}", again + 1);
                    // Its end was asked for, and then it is not for a process that died to try again;
                    // it is for who hands out its dead letter, which begins with the first try.
                    if is_called_off && cause.attempt > 1 && !self.is_there(&next).await? {
                        return self.opened(pipeline, id, None, limits).await.map_err(named);
                    }
                    (id, again) = (next, again + 1);
                }
                Held::New(lease) => {
                    store.delete(EVENT);
                    let log = Log::of(Arc::clone(&self.journal), Some(lease), None, limits.clone());
                    return Ok(Opened { id, log: Arc::new(log), store, event: None });
                }
                Held::Over(..) => {
                    return self.opened(pipeline, id, None, limits).await.map_err(named);
                }
                Held::Ours(lease) => {
                    let opened = self.opened(pipeline, id, Some(lease.clone()), limits).await;
                    if opened.is_err() {
                        // Whoever can read it need not wait.
                        let _ = self.journal.release(&lease).await;
                    }
                    return opened.map_err(named);
                }
                // If the event is ours, whoever has the run is at its end, or dead.
                Held::Elsewhere(other) if is_event || self.waits => {
                    let wait = other.lease_left.clamp(LOOK_MIN, LOOK_MAX);
                    let held = |_| named(elsewhere(&id, &other));
                    let waiting = task::sleep("journal", wait).map_err(held)?;
                    limits.bound(None, waiting).await.map_err(|_| named(elsewhere(&id, &other)))?;
                }
                Held::Elsewhere(other) => return Err(named(elsewhere(&id, &other))),
            }
        }
        let error = Error::new(ErrorKind::Overloaded, "journal", "the event has too many runs");
        Err(named(error).with("run", first))
    }

    async fn is_there(&self, id: &str) -> Result<bool> {
        Ok(self.journal.find(id).await?.is_some())
    }

    async fn begin(&self, pipeline: &Pipeline, id: &str, store: &Store) -> Result<Held> {
        let shape = pipeline.shape();
        let mut run = NewRun::new(id, pipeline.name(), &**shape);
        run.version = derived_id("railbus.shape", shape).chars().take(8).collect();
        (run.input, run.lease) = (store.clone(), self.lease);
        run.owner = owner();
        match self.journal.begin(&run).await? {
            Begun::New(lease) => Ok(Held::New(lease)),
            Begun::Resumed(lease) => Ok(Held::Ours(lease)),
            Begun::Finished(RunInfo { state: RunState::Ended(how), cancel_asked, .. }) => {
                Ok(Held::Over(how, cancel_asked))
            }
            Begun::Elsewhere(other) => Ok(Held::Elsewhere(other)),
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
        limits: &Limits,
    ) -> Result<Opened> {
        let Some(run) = self.journal.load(&id).await? else {
            let error = Error::new(ErrorKind::NotFound, "journal", "the run is gone");
            return Err(error.with("run", id));
        };
        if *run.shape != **pipeline.shape() {
            return Err(other_graph(&id, &run.shape, pipeline.shape()));
        }
        let log = Log::of(Arc::clone(&self.journal), lease, Some(&run), limits.clone());
        let log = Arc::new(log);
        let mut store = run.input;
        let event = store.value(EVENT).map(|event| event.get::<Event>()).transpose()?;
        store.delete(EVENT);
        Ok(Opened { id, log, store, event })
    }
}

/// Says who runs it: runs may be shared by programs on many machines, which have processes of the same
/// number.
fn owner() -> String {
    let process = format!("process {}", process::id());
    match host() {
        Some(host) => format!("{process} on {host}"),
        None => process,
    }
}

/// Returns this machine's name, as far as it is known without asking for it.
fn host() -> Option<&'static str> {
    static HOST: OnceLock<Option<String>> = OnceLock::new();
    let look = || {
        let told = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let told = told.or_else(|| env::var("HOSTNAME").or_else(|_| env::var("COMPUTERNAME")).ok());
        // Longer than any name of a host would be no owner.
        told.map(|name| name.trim().chars().take(64).collect::<String>()).filter(|n| !n.is_empty())
    };
    HOST.get_or_init(look).as_deref()
}

/// Whose a run is.
enum Held {
    New(RunLease),
    Ours(RunLease),
    // How, and whether someone asked for it.
    Over(RunEnd, bool),
    Elsewhere(RunInfo),
}

fn elsewhere(id: &str, other: &RunInfo) -> Error {
    let left = Duration::from_millis(other.lease_left.as_millis().try_into().unwrap_or(u64::MAX));
    let error = Error::new(ErrorKind::Stale, "journal", "someone else runs it").with("run", id);
    let error = error.with("owner", &other.owner).with("held for", format!("{left:?}"));
    error.hint("it can be taken over then, unless it shows a sign of life")
}

fn other_graph(id: &str, before: &str, now: &str) -> Error {
    let why = format!("the run was begun with another graph: {}", difference(before, now));
    let error = Error::new(ErrorKind::Changed, "journal", why).with("run", id);
    error.hint("go on with the program that began it, or cancel it: railbus runs cancel")
}

/// Shows what one graph has and another has not: steps by their names, then their lines.
fn difference(before: &str, now: &str) -> String {
    fn name(line: &str) -> &str {
        line.split(' ').next().unwrap_or(line)
    }
    let (old, new): (HashSet<_>, HashSet<_>) = (before.lines().collect(), now.lines().collect());
    let gone: Vec<_> = before.lines().filter(|line| !new.contains(line)).collect();
    let come: Vec<_> = now.lines().filter(|line| !old.contains(line)).collect();
    if gone.is_empty() && come.is_empty() {
        return "the same steps in another order".into();
    }
    let (less, more): (HashSet<_>, HashSet<_>) = (
        gone.iter().map(|line| name(line)).collect(),
        come.iter().map(|line| name(line)).collect(),
    );
    let names = |lines: &[&str], what: &str, takes: &dyn Fn(&str) -> bool| {
        let names: Vec<_> = lines.iter().map(|line| name(line)).filter(|n| takes(n)).collect();
        let shown = names[..names.len().min(SHOWN_MAX)].join(", ");
        let rest = if names.len() > SHOWN_MAX { ", .." } else { "" };
        (!names.is_empty()).then(|| format!("{what} {shown}{rest}"))
    };
    let said = [
        names(&gone, "removed", &|name| !more.contains(name)),
        names(&come, "added", &|name| !less.contains(name)),
        names(&gone, "changed", &|name| more.contains(name)),
    ];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let lines = gone.iter().map(|line| format!("- {line}"));
    let lines: Vec<_> = lines.chain(come.iter().map(|line| format!("+ {line}"))).collect();
    let rest = match lines.len().saturating_sub(SHOWN_MAX) {
        0 => String::new(),
        n => format!("\n.. and {n} lines more"),
    };
    format!("{said}\n{}{rest}", lines[..lines.len().min(SHOWN_MAX)].join("\n"))
}
