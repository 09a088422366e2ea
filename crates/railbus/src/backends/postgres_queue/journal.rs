//! The journal of runs: what a fleet shares of them.

use super::{
    found,
    lines::{Lines, Value},
    settings::{CAPABILITY, micros},
    wake::Wake,
    writing::{Entry, LIMITS, send},
};
use crate::{
    backend::{
        Begun, Journal, Journaled, NewRun, Record, Recorded, RunEnd, RunError, RunFilter, RunInfo,
        RunLease, RunState, Told,
    },
    backends::{
        gather::Gather,
        postgres::{closed, fault},
    },
    error::{Error, ErrorKind, Result},
    journal::{check_run, no_run, ready, was_deleted, write_error},
    task,
};
use async_trait::async_trait;
use std::{
    future::pending,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

const OPERATION: &str = "journal";

/// How soon what a broken connection held up is written again, at least and at most.
const AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// For how long that is tried at most, however long a lease is.
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// The journal of an open queue. It does not keep the queue open.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    lines: Weak<Lines>,
    wake: Weak<Wake>,
    gather: Gather<Entry>,
}

impl Runs {
    pub(super) fn new(lines: &Arc<Lines>, wake: &Arc<Wake>) -> Self {
        let (lines, wake) = (Arc::downgrade(lines), Arc::downgrade(wake));
        let sending = Weak::clone(&lines);
        let gather =
            Gather::new(LIMITS, Entry::weight, move |entries| send(Weak::clone(&sending), entries));
        Self { lines, wake, gather }
    }

    fn lines(&self) -> Result<Arc<Lines>> {
        let lines = self.lines.upgrade().ok_or_else(|| closed(OPERATION))?;
        lines.check(OPERATION)?;
        Ok(lines)
    }

    /// Writes in a run. What a broken connection or a server that starts anew holds up is written
    /// again for as long as the lease lasts: to write the same twice changes nothing.
    async fn write(&self, entry: Entry) -> Result<Told> {
        if entry.lease.run.contains('\0') {
            return Err(was_deleted(&entry.lease.run));
        }
        let lasts = !entry.records.is_empty() || entry.end.is_some();
        let (until, mut pause) = (Instant::now() + entry.lease.lease.min(AGAIN_MAX), AGAIN[0]);
        loop {
            self.lines()?;
            let done = self.gather.put(vec![entry.clone()]).await.pop();
            match done.unwrap_or_else(|| Err(closed(OPERATION))) {
                Ok(()) if entry.is_called_off.load(Relaxed) => return Ok(Told::Cancel),
                Ok(()) => return Ok(Told::GoOn),
                Err(error) if lasts && may_heal(&error) && Instant::now() + pause < until => {
                    tracing::debug!(run = entry.lease.run, %error, "a run is written in again");
                    sleep(pause).await;
                    pause = (pause * 2).min(AGAIN[1]);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for something that is done even if the caller stops waiting.
    async fn ask<T, F>(&self, work: impl FnOnce(Arc<Lines>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let asked = task::runtime(OPERATION)?.spawn(work(self.lines()?));
        asked.await.unwrap_or_else(|_| Err(closed(OPERATION)))
    }
}

fn may_heal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// Refuses what the server's texts can't have.
fn check_text(run: &str, what: &'static str, text: &str) -> Result<()> {
    if !text.contains('\0') {
        return Ok(());
    }
    let why = format!("the {what} has a NUL character, which PostgreSQL keeps in no text");
    Err(Error::new(ErrorKind::Encode, OPERATION, why).with("run", run.escape_debug()))
}

/// Begins a run, or takes one over; says what came of it, and under which fence.
async fn begin(lines: &Lines, run: &NewRun, input: &str) -> Result<(String, Option<i64>)> {
    let lease = micros(run.lease);
    let values: [Value<'_>; 7] = [
        (&run.id, Type::TEXT),
        (&run.pipeline, Type::TEXT),
        (&run.version, Type::TEXT),
        (&run.shape, Type::TEXT),
        (&input, Type::TEXT),
        (&run.owner, Type::TEXT),
        (&lease, Type::INT8),
    ];
    let begin = "SELECT came, fence FROM @.begin_journaled($1, $2, $3, $4, $5, $6, $7)";
    let rows = lines.query(OPERATION, begin, &values).await?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let missing = || Error::new(ErrorKind::Internal, OPERATION, "the server returned no row");
    let row = rows.first().ok_or_else(missing)?;
    read(row).map_err(|e| fault(OPERATION, &lines.shown, e))
}

#[async_trait]
impl Journal for Runs {
    async fn begin(&self, run: &NewRun) -> Result<Begun> {
        let input = check_run(run, CAPABILITY.payload_max)?;
        check_text(&run.id, "run's graph", &run.shape)?;
        check_text(&run.id, "graph's version", &run.version)?;
        loop {
            let (new, input) = (run.clone(), input.clone());
            let begun = self.ask(|lines| async move { begin(&lines, &new, &input).await }).await?;
            let lease = |fence: Option<i64>| RunLease {
                run: run.id.clone(),
                fence: fence.unwrap_or_default().cast_unsigned(),
                lease: run.lease,
            };
            let came = match (&*begun.0, begun.1) {
                ("new", fence) => return Ok(Begun::New(lease(fence))),
                ("taken", fence) => return Ok(Begun::Resumed(lease(fence))),
                (came, _) => came,
            };
            // Who deleted it meanwhile made way.
            let Some((run, shape)) = found::shaped(&*self.lines()?, &run.id).await? else {
                continue;
            };
            return Ok(match came {
                "held" => Begun::Elsewhere(run),
                "over" => Begun::Finished(run),
                _ => Begun::OtherShape { run, shape },
            });
        }
    }

    async fn record(&self, lease: &RunLease, records: &[Record]) -> Result<Told> {
        let ready = ready(&lease.run, records, CAPABILITY.payload_max)?;
        ready.iter().try_for_each(|one| check_text(&lease.run, "path of a step", &one.path))?;
        self.write(Entry::new(lease, ready)).await
    }

    async fn renew(&self, lease: &RunLease) -> Result<Told> {
        self.write(Entry::new(lease, Vec::new())).await
    }

    async fn release(&self, lease: &RunLease) -> Result<()> {
        let (run, fence) = (lease.run.replace('\0', ""), lease.fence.cast_signed());
        let release = |lines: Arc<Lines>| async move {
            let values: [Value<'_>; 2] = [(&run, Type::TEXT), (&fence, Type::INT8)];
            let release = "SELECT @.release_journaled($1, $2)";
            lines.query(OPERATION, release, &values).await.map(drop)
        };
        self.ask(release).await
    }

    async fn end(&self, lease: &RunLease, how: RunEnd, error: Option<RunError>) -> Result<()> {
        let error = error.as_ref().map(write_error).transpose()?;
        let entry = Entry { end: Some(how), error, ..Entry::new(lease, Vec::new()) };
        // Whoever asked for another end comes too late.
        self.write(entry).await.map(|_| ())
    }

    async fn cancel(&self, id: &str) -> Result<RunState> {
        if id.contains('\0') {
            return Err(no_run(id));
        }
        let run = id.to_owned();
        let wake = self.wake.upgrade();
        let channel = wake.as_ref().and_then(|wake| wake.calls_off());
        let cancel = |lines: Arc<Lines>| async move {
            let values: [Value<'_>; 2] = [(&run, Type::TEXT), (&channel, Type::TEXT)];
            let cancel = "SELECT @.cancel_journaled($1, $2)";
            lines.one::<Option<String>>(OPERATION, cancel, &values).await
        };
        let was = self.ask(cancel).await?.ok_or_else(|| no_run(id))?;
        if let Some(wake) = wake {
            wake.called_off(id);
        }
        was.parse()
    }

    async fn nudged(&self, id: &str) {
        let listening = match (self.lines(), self.wake.upgrade()) {
            (Ok(lines), Some(wake)) => {
                wake.listen(&lines).await.map(|was| (was, wake.news_of_runs()))
            }
            _ => Err(closed(OPERATION)),
        };
        match listening {
            Ok((true, news)) => news.until(id).await,
            // It may have been asked for before anyone listened.
            Ok((false, _)) => {}
            Err(error) => {
                tracing::debug!(run = id, %error, "nobody tells that a run is to end");
                pending::<()>().await;
            }
        }
    }

    async fn find(&self, id: &str) -> Result<Option<Journaled>> {
        found::find(&*self.lines()?, id).await
    }

    async fn records(&self, id: &str, after: u64, limit: usize) -> Result<Vec<Recorded>> {
        found::records(&*self.lines()?, id, after, limit).await
    }

    async fn list(&self, filter: &RunFilter) -> Result<Vec<RunInfo>> {
        found::list(&*self.lines()?, filter).await
    }

    async fn prune(&self, filter: &RunFilter, older_than: Duration) -> Result<u64> {
        let lines = self.lines()?;
        let mut filter = filter.clone();
        if filter.states.is_empty() {
            filter.states.extend(RunEnd::ALL.iter().map(|how| RunState::Ended(*how)));
        }
        let (older, mut gone, mut place) = (micros(older_than), 0, Some(0));
        while let Some(from) = place {
            let most = filter.limit.unwrap_or(u64::MAX).saturating_sub(gone);
            if most == 0 {
                break;
            }
            let doomed = found::doomed(&lines, &filter, older, from, most).await?;
            place = doomed.place;
            gone += discard(&lines, &doomed, older).await?;
        }
        while empty(&lines).await? {}
        Ok(gone)
    }
}

/// Deletes runs that are as they were found.
async fn discard(lines: &Lines, doomed: &found::Doomed, older: i64) -> Result<u64> {
    if doomed.numbers.is_empty() {
        return Ok(0);
    }
    let values: [Value<'_>; 3] = [
        (&doomed.numbers, Type::INT8_ARRAY),
        (&doomed.states, Type::TEXT_ARRAY),
        (&older, Type::INT8),
    ];
    let discard = "SELECT @.discard_journaled($1, $2, $3)";
    lines.one::<i64>(OPERATION, discard, &values).await.map(i64::cast_unsigned)
}

/// Deletes some of what is left of runs that are gone; tells whether there may be more.
async fn empty(lines: &Lines) -> Result<bool> {
    lines.one(OPERATION, "SELECT @.empty_journal()", &[]).await
}

/// Removes some of the runs that ended longer ago than `retention`; tells whether there may be more.
pub(super) async fn sweep(lines: &Lines, retention: Duration) -> Result<bool> {
    let older = micros(retention);
    let values: [Value<'_>; 1] = [(&older, Type::INT8)];
    let gone: i64 = lines.one("retention", "SELECT @.sweep_journal($1)", &values).await?;
    Ok(empty(lines).await? || gone > 0)
}
