//! An open queue: the contracts of a backend, handed to the parts of the work.

use super::{
    accounts,
    claim::Member,
    commons::Shared,
    groups,
    journal::Runs,
    letters,
    lines::Lines,
    listen::{BroadcastSource, Heard},
    publish::{self, Ready},
    retention::{keep_for, keep_sweeping},
    schema::{self, Grant},
    settings::{CAPABILITY, Settings},
    source::{GroupSource, Times},
    wake::Wake,
    wants::Wants,
};
use crate::{
    backend::{
        Accounts, Backend, Capability, GroupInfo, Journal, Keeper, Letter, LetterFilter, LetterId,
        Outgoing, Position, RunMark, Source, Start, Subscribe, Tally,
    },
    backends::gather::{Gather, Limits},
    commons::Commons,
    error::{Error, ErrorKind, Result},
    options::Options,
    predicate::Interest,
    task,
};
use async_trait::async_trait;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

/// How large one statement that publishes may be.
const LIMITS: Limits =
    Limits { items: 1_000, weight: 4 << 20, flights: super::lines::PUBLISHERS, callers: 16 };

/// Checks the settings of a queue, without connecting.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    Settings::read(options).map(|_| ())
}

/// Opens a queue, creating its tables or bringing them up to date as needed.
///
/// # Errors
/// Returns what is wrong with the options, the server or the schema.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let settings = Settings::read(&options)?;
    task::runtime("open postgres-queue")?;
    let lines = Lines::new(&settings);
    let ready = async {
        prepare(&lines, &settings, "open postgres-queue").await?;
        match settings.retention {
            Some(retention) => keep_for(&lines, retention).await,
            None => Ok(()),
        }
    };
    if let Err(e) = ready.await {
        lines.close(settings.server.connect_timeout).await;
        return Err(e);
    }
    let wake = Wake::new(&settings);
    let (sending, telling) = (Arc::clone(&lines), Arc::clone(&wake));
    let gather = Gather::new(LIMITS, Ready::weight, move |events| {
        publish::send(Arc::clone(&sending), Arc::clone(&telling), events)
    });
    let sweeping =
        keep_sweeping(Arc::downgrade(&lines), settings.retention, settings.journal_retention);
    let sweeping = tokio::spawn(sweeping);
    let open = Open { gather, sweeping: AbortOnDropHandle::new(sweeping), sources: Vec::new() };
    let journal = Arc::new(Runs::new(&lines, &wake));
    Ok(Arc::new(Queue { lines, wake, journal, open: Mutex::new(Some(open)) }))
}

/// Brings the tables of a queue up to date, and lets roles work with it; returns the version that
/// they had, 0 if there were none, and the one that they have.
///
/// # Examples
/// ```no_run
/// use railbus::{backends::postgres_queue::{Grant, migrate}, options::Options};
///
/// # async fn deploy() -> railbus::Result<()> {
/// let options = Options::parse("postgres-queue://owner@db.internal/shop")?;
/// let (found, now) = migrate(&options, &[(Grant::All, "worker")]).await?;
/// println!("brought the tables from version {found} to {now}");
/// # Ok(()) }
/// ```
///
/// # Errors
/// Returns what is wrong with the options, the server, the schema or the roles.
pub async fn migrate(options: &Options, grants: &[(Grant, &str)]) -> Result<(i32, i32)> {
    let settings = Settings::read(options)?;
    let lines = Lines::new(&settings);
    let migrating = async {
        let found = prepare(&lines, &settings, "migrate").await?;
        let session = lines.first().client("migrate").await?;
        for (grant, role) in grants {
            let sql = schema::grants(&settings.server.schema, *grant, role);
            session.timed("migrate", session.batch_execute(&sql)).await?;
        }
        Ok((found, schema::VERSION))
    };
    let migrated = migrating.await;
    lines.close(settings.server.connect_timeout).await;
    migrated
}

async fn prepare(lines: &Lines, settings: &Settings, operation: &'static str) -> Result<i32> {
    let session = lines.first().open(operation).await?;
    schema::migrate(&session, operation, &settings.server.schema, &lines.shown).await
}

#[derive(Debug)]
struct Queue {
    lines: Arc<Lines>,
    wake: Arc<Wake>,
    journal: Arc<Runs>,
    // None once closed.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    gather: Gather<Ready>,
    sweeping: AbortOnDropHandle<()>,
    sources: Vec<Weak<dyn SourceDebug>>,
}

trait SourceDebug: Source + std::fmt::Debug {}
impl<T: Source + std::fmt::Debug> SourceDebug for T {}

impl Queue {
    fn gather(&self) -> Result<Gather<Ready>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|open| open.gather.clone()).ok_or_else(closed)
    }

    fn lines(&self) -> Result<&Lines> {
        self.gather().map(|_| &*self.lines)
    }

    fn keep(&self, source: &Arc<dyn SourceDebug>) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_mut().ok_or_else(closed)?;
        open.sources.retain(|s| s.strong_count() > 0);
        open.sources.push(Arc::downgrade(source));
        Ok(())
    }

    async fn no_group(&self, name: &str) -> Error {
        let known = self.groups().await.unwrap_or_default();
        let names = known.iter().map(|g| g.name.as_str()).collect::<Vec<_>>().join(", ");
        let hint = if names.is_empty() {
            "the store has no groups yet".into()
        } else {
            format!("known groups: {names}")
        };
        Error::new(ErrorKind::NotFound, "groups", "there is no such group")
            .with("group", name)
            .hint(hint)
    }
}

impl Drop for Queue {
    /// A queue that was not closed lets go of its connections all the same.
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open {
            open.sources.iter().filter_map(Weak::upgrade).for_each(|s| s.stop());
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "postgres-queue", "the queue is closed")
}

#[async_trait]
impl Backend for Queue {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let gather = match self.gather() {
            Ok(gather) => gather,
            Err(e) => return vec![Err(e); batch.len()],
        };
        let mut ready = Vec::with_capacity(batch.len());
        let mut results = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let made = publish::make_ready(outgoing, CAPABILITY.payload_max);
            results.push(made.map(|r| ready.push(r)));
        }
        if ready.is_empty() {
            return results;
        }
        let sent = if ready.iter().all(Ready::is_plain) {
            let mut sent = Vec::with_capacity(ready.len());
            for part in publish::parts(ready) {
                sent.extend(gather.put(part).await);
            }
            sent
        } else {
            publish::send_all_steps(&self.lines, &self.wake, &ready).await
        };
        let mut sent = sent.into_iter();
        let lost = || Error::new(ErrorKind::Internal, "publish", "a result is missing");
        results
            .into_iter()
            .map(|r| r.and_then(|()| sent.next().unwrap_or_else(|| Err(lost()))))
            .collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let lines = self.lines()?;
        self.wake.listen(lines).await?;
        let wants = Wants::of(&request.interest);
        let (stopped, _) = watch::channel(false);
        let (all, wake) = (Arc::clone(&self.lines), Arc::clone(&self.wake));
        let source: Arc<dyn SourceDebug> = match request.group {
            None => {
                let place = lines.one("subscribe", "SELECT @.tick()", &[]).await?;
                let heard = Mutex::new(Heard::behind(place));
                let gap = Notify::new();
                Arc::new(BroadcastSource { wants, lines: all, wake, stopped, heard, gap })
            }
            Some(name) => {
                let Subscribe { interest, start, order, lease, .. } = request;
                let (group, keyed) = groups::open(lines, &name, &interest, start, order).await?;
                let member = Member { group, lease, wants };
                let times = Mutex::new(Times::default());
                Arc::new(GroupSource { member, name, keyed, lines: all, wake, stopped, times })
            }
        };
        self.keep(&source)?;
        Ok(source)
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        let withdrawn = publish::withdraw(self.lines()?, event_id).await?;
        if withdrawn {
            // Whoever waits for it to be settled may look again.
            self.wake.everyone(&self.lines);
        }
        Ok(withdrawn)
    }

    async fn ping(&self) -> Result<()> {
        self.lines()?.query("ping", "SELECT 1", &[]).await.map(drop)
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        open.sources.iter().filter_map(Weak::upgrade).for_each(|s| s.stop());
        open.sweeping.abort();
        let closing = async {
            self.wake.close(deadline).await;
            self.lines.close(deadline).await;
        };
        let _ = task::within(deadline, closing).await;
        Ok(())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn commons(&self) -> Option<Arc<dyn Commons>> {
        Some(Arc::new(Shared(Arc::downgrade(&self.lines))))
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        Some(Arc::<Runs>::clone(&self.journal))
    }
}

#[async_trait]
impl Keeper for Queue {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        groups::list(self.lines()?).await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        let found = groups::prune(self.lines()?, group).await?;
        self.wake.everyone(&self.lines);
        if found { Ok(()) } else { Err(self.no_group(group).await) }
    }

    async fn replay(&self, group: &str, start: Start) -> Result<u64> {
        let again = groups::replay(self.lines()?, group, start).await?;
        self.wake.everyone(&self.lines);
        match again {
            Some(again) => Ok(again),
            None => Err(self.no_group(group).await),
        }
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        letters::list(self.lines()?, filter).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        let redriven = letters::redrive(self.lines()?, ids).await?;
        self.wake.everyone(&self.lines);
        Ok(redriven)
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        letters::purge(self.lines()?, ids).await
    }
}

#[async_trait]
impl Accounts for Queue {
    async fn begin(&self, groups: &[(String, Interest)]) -> Result<RunMark> {
        accounts::begin(self.lines()?, groups).await
    }

    async fn end(&self, run: RunMark) -> Result<()> {
        accounts::end(self.lines()?, run).await
    }

    async fn position(&self, input: &str) -> Result<Option<Position>> {
        accounts::position(self.lines()?, input).await
    }

    async fn tally(&self, run: RunMark) -> Result<Tally> {
        accounts::tally(self.lines()?, run).await
    }

    async fn is_idle(&self, groups: &[(String, Interest)]) -> Result<bool> {
        accounts::is_idle(self.lines()?, groups).await
    }

    async fn changed(&self) {
        if let Ok(lines) = self.lines()
            && self.wake.listen(lines).await.is_ok()
        {
            let _ = self.wake.news().changed().await;
        }
    }
}
