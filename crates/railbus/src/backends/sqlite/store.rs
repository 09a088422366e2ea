//! An open store: the contracts of a backend, handed to the writer and the reader.

use super::{
    accounts,
    claim::Member,
    commons::Shared,
    groups,
    journal::Runs,
    letters, publish,
    reader::Reader,
    settings::{CAPABILITY, Settings},
    source::{BroadcastSource, GroupSource, Place, Waiting},
    timeline::Timeline,
    wake::Wake,
    writer::{Weight, Writer},
};
use crate::{
    backend::{
        Accounts, Backend, Capability, GroupInfo, Journal, Keeper, Letter, LetterFilter, LetterId,
        Outgoing, Position, RunMark, Source, Start, Subscribe, Tally,
    },
    commons::Commons,
    error::{Error, ErrorKind, Result},
    options::Options,
    predicate::Interest,
    task,
};
use async_trait::async_trait;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Notify};

/// Checks the settings of a store, without looking at the file.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    Settings::read(options).map(|_| ())
}

/// Opens a store, creating the file if it is missing.
///
/// # Errors
/// Returns what is wrong with the options, the file or its folder.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let settings = Settings::read(&options)?;
    task::runtime("open sqlite")?;
    let opened = tokio::task::spawn_blocking(move || start(settings)).await;
    let died = |e| Error::new(ErrorKind::Internal, "open sqlite", "opening panicked").because(e);
    Ok(Arc::new(opened.map_err(died)??))
}

fn start(settings: Settings) -> Result<Sqlite> {
    let wake = Wake::new()?;
    let (writer, timeline, writing) = Writer::start(&settings, Arc::clone(&wake))?;
    let (reader, reading) = Reader::start(&settings)?;
    let threads = vec![writing, reading];
    let journal =
        Runs { writer: writer.clone(), reader: reader.clone(), timeline: timeline.clone() };
    Ok(Sqlite {
        settings,
        timeline,
        wake,
        journal: Arc::new(journal),
        open: Mutex::new(Some(Open { writer, reader, threads, sources: Vec::new() })),
    })
}

#[derive(Debug)]
struct Sqlite {
    settings: Settings,
    timeline: Timeline,
    wake: Arc<Wake>,
    journal: Arc<Runs>,
    // None once closed.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    writer: Writer,
    reader: Reader,
    threads: Vec<JoinHandle<()>>,
    sources: Vec<std::sync::Weak<dyn SourceDebug>>,
}

trait SourceDebug: Source + std::fmt::Debug {}
impl<T: Source + std::fmt::Debug> SourceDebug for T {}

impl Sqlite {
    fn handles(&self) -> Result<(Writer, Reader)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().ok_or_else(closed)?;
        Ok((open.writer.clone(), open.reader.clone()))
    }

    fn writer(&self) -> Result<Writer> {
        Ok(self.handles()?.0)
    }

    fn reader(&self) -> Result<Reader> {
        Ok(self.handles()?.1)
    }

    fn keep(&self, source: &Arc<dyn SourceDebug>) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_mut().ok_or_else(closed)?;
        open.sources.retain(|s| s.strong_count() > 0);
        open.sources.push(Arc::downgrade(source));
        Ok(())
    }

    /// Makes sure that other processes' commits wake this one.
    async fn listen(&self, writer: &Writer) -> Result<()> {
        let Some(name) = self.wake.listen(&self.settings)? else { return Ok(()) };
        let name = name.to_owned();
        let add = move |t: &rusqlite::Transaction<'_>| {
            t.execute("INSERT OR IGNORE INTO listeners (name) VALUES (?1)", [&name]).map(|_| ())
        };
        writer.call(Weight::Light, add).await
    }
}

impl Drop for Sqlite {
    /// A store that was not closed ends its threads all the same.
    fn drop(&mut self) {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open {
            let _ = self.wake.close();
            open.writer.stop();
            open.reader.stop();
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "sqlite", "the store is closed")
}

#[async_trait]
impl Backend for Sqlite {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let writer = match self.writer() {
            Ok(writer) => writer,
            Err(e) => return vec![Err(e); batch.len()],
        };
        let mut ready = Vec::with_capacity(batch.len());
        let mut results = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let made = publish::make_ready(outgoing, CAPABILITY.payload_max, &self.timeline);
            results.push(made.map(|r| ready.push(r)));
        }
        let failed = match writer.publish(ready).await {
            Ok(None) => return results,
            Ok(Some(input)) => {
                let why = "another process has read on in this input";
                Error::new(ErrorKind::Stale, "publish", why).with("input", input)
            }
            Err(e) => e,
        };
        results.into_iter().map(|r| r.and_then(|()| Err(failed.clone()))).collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let (writer, reader) = self.handles()?;
        self.listen(&writer).await?;
        let wants = Arc::new(request.interest.compile());
        let waiting = Waiting::new(&self.wake, self.timeline.clone());
        let source: Arc<dyn SourceDebug> = match request.group {
            None => {
                let seq = reader.call(groups::newest).await?;
                let place = Mutex::new(Place { seq, held: BTreeSet::new(), handed_out: 0 });
                let (gap, failed) = (Notify::new(), AtomicBool::new(false));
                Arc::new(BroadcastSource { wants, reader, waiting, place, gap, failed })
            }
            Some(name) => {
                let (group, interest) = (name.clone(), request.interest);
                let how = (request.start, request.order);
                let open =
                    move |t: &rusqlite::Transaction<'_>| groups::open(t, &group, &interest, how);
                let group = writer.call(Weight::Durable, open).await?;
                let timeline = self.timeline.clone();
                let member = Member { group, lease: request.lease, timeline, wants };
                let wake = Arc::clone(&self.wake);
                let touched = Mutex::new(Instant::now());
                Arc::new(GroupSource { member, name, writer, reader, wake, waiting, touched })
            }
        };
        self.keep(&source)?;
        Ok(source)
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        let (id, timeline) = (event_id.to_owned(), self.timeline.clone());
        let work = move |t: &rusqlite::Transaction<'_>| publish::withdraw(t, &id, &timeline);
        self.writer()?.call(Weight::News, work).await
    }

    async fn ping(&self) -> Result<()> {
        self.writer()?.call(Weight::Light, |t| groups::newest(t).map(|_| ())).await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let Some(open) = self.open.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        open.sources.iter().filter_map(std::sync::Weak::upgrade).for_each(|s| s.stop());
        let name = self.wake.name().to_owned();
        let listening = self.wake.close();
        let forget = move |t: &rusqlite::Transaction<'_>| {
            t.execute("DELETE FROM listeners WHERE name = ?1", [&name]).map(|_| ())
        };
        // A listener that stays listed is forgotten by whoever fails to wake it.
        let _ = task::within(deadline, open.writer.call(Weight::Light, forget)).await;
        let Open { writer, reader, threads, .. } = open;
        writer.stop();
        reader.stop();
        let join = move || {
            threads.into_iter().chain(listening).for_each(|thread| drop(thread.join()));
        };
        match Handle::try_current() {
            // A thread that hangs on a disk that hangs must not hang the program.
            Ok(runtime) => drop(task::within(deadline, runtime.spawn_blocking(join)).await),
            Err(_) => join(),
        }
        Ok(())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(self)
    }

    fn commons(&self) -> Option<Arc<dyn Commons>> {
        let Runs { writer, timeline, .. } = &*self.journal;
        Some(Arc::new(Shared { writer: writer.clone(), timeline: timeline.clone() }))
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        Some(Arc::<Runs>::clone(&self.journal))
    }
}

#[async_trait]
impl Keeper for Sqlite {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let now = self.timeline.now();
        self.reader()?.call(move |c| groups::list(c, now)).await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        let name = group.to_owned();
        let found = self.writer()?.call(Weight::News, move |t| groups::prune(t, &name)).await?;
        if found { Ok(()) } else { Err(self.no_group(group).await) }
    }

    async fn replay(&self, group: &str, start: Start) -> Result<u64> {
        let name = group.to_owned();
        let work = move |t: &rusqlite::Transaction<'_>| groups::replay(t, &name, start);
        match self.writer()?.call(Weight::News, work).await? {
            Some(again) => Ok(again),
            None => Err(self.no_group(group).await),
        }
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        let filter = filter.clone();
        self.reader()?.call(move |c| letters::list(c, &filter)).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        let ids = ids.to_vec();
        self.writer()?.call(Weight::News, move |t| letters::redrive(t, &ids)).await
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        let ids = ids.to_vec();
        self.writer()?.call(Weight::Durable, move |t| letters::purge(t, &ids)).await
    }
}

impl Sqlite {
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

#[async_trait]
impl Accounts for Sqlite {
    async fn begin(&self, groups: &[(String, Interest)]) -> Result<RunMark> {
        let groups = groups.to_vec();
        self.writer()?.call(Weight::Durable, move |t| accounts::begin(t, &groups)).await
    }

    async fn end(&self, run: RunMark) -> Result<()> {
        self.writer()?.call(Weight::Light, move |t| accounts::end(t, run)).await
    }

    async fn position(&self, input: &str) -> Result<Option<Position>> {
        let input = input.to_owned();
        self.reader()?.call(move |c| publish::position(c, &input)).await
    }

    async fn tally(&self, run: RunMark) -> Result<Tally> {
        self.reader()?.call(move |c| accounts::tally(c, run)).await
    }

    async fn is_idle(&self, groups: &[(String, Interest)]) -> Result<bool> {
        let groups = groups.to_vec();
        self.reader()?.call(move |c| accounts::is_idle(c, &groups)).await
    }

    async fn changed(&self) {
        if let Ok(writer) = self.writer()
            && self.listen(&writer).await.is_ok()
        {
            let _ = self.wake.changes().changed().await;
        }
    }
}
