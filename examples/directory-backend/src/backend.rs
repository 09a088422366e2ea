//! A connection to a directory.

use crate::{
    CAPABILITY,
    files::failed,
    group::Group,
    letters, log,
    source::{Listener, Member, Stop},
};
use async_trait::async_trait;
use railbus::{
    Error, ErrorKind, Result,
    backend::{
        Backend, Capability, GroupInfo, Keeper, Letter, LetterFilter, LetterId, Outgoing, Source,
        Start, Subscribe,
    },
};
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// A bus in a directory.
#[derive(Debug)]
pub struct Directory {
    shared: Arc<Shared>,
    open: Mutex<Vec<Weak<Stop>>>,
    // The last event that is known to be there.
    last: Arc<AtomicU64>,
}

/// What a connection shares with its sources.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    closed: AtomicBool,
}

impl Shared {
    /// Runs what waits for files or locks where it is in nobody's way; it runs to its end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.closed.load(SeqCst) {
            return Err(Error::new(ErrorKind::Closed, "directory", "the bus is closed"));
        }
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Internal, "directory", "the work was lost").because(e))
        })
    }
}

impl Directory {
    /// Opens a directory, creating it if there is none.
    ///
    /// # Errors
    /// Returns an error if it can't be created.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root: PathBuf = root.into();
        let shared = Arc::new(Shared { root: root.clone(), closed: AtomicBool::new(false) });
        let create = move || {
            for folder in ["events", "groups", "letters", "new"] {
                let folder = root.join(folder);
                fs::create_dir_all(&folder).map_err(failed("open", &folder))?;
            }
            Ok(log::last(&root, 0))
        };
        let last = shared.run(create).await?;
        Ok(Self { shared, open: Mutex::default(), last: Arc::new(last.into()) })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(PathBuf) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.shared.root.clone();
        self.shared.run(move || work(root)).await
    }
}

#[async_trait]
impl Backend for Directory {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let encoded: Vec<_> =
            batch.iter().map(|outgoing| log::encode(outgoing, CAPABILITY.payload_max)).collect();
        let last = Arc::clone(&self.last);
        let append = move |root: PathBuf| {
            let stored = encoded.into_iter().map(|encoded| {
                let number = log::append(&root, &encoded?, last.load(SeqCst))?;
                last.fetch_max(number, SeqCst);
                Ok(())
            });
            Ok(stored.collect())
        };
        match self.with(append).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); batch.len()],
        }
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        let Subscribe { group, interest, start, lease, .. } = request;
        let (shared, stop) = (Arc::clone(&self.shared), Arc::<Stop>::default());
        let wanted = Arc::new(interest.compile());
        let last = self.last.load(SeqCst);
        let source: Arc<dyn Source> = match group {
            Some(name) => {
                let join = move |root: PathBuf| {
                    let group = Group::new(&root, &name);
                    group.join(&name, &interest, start)?;
                    Ok(group)
                };
                let group = self.with(join).await?;
                Arc::new(Member { shared, stop: Arc::clone(&stop), group, wanted, lease })
            }
            None => {
                let cursor = self.with(move |root| Ok(log::last(&root, last))).await?.into();
                let (stop, handed_out) = (Arc::clone(&stop), AtomicU64::new(0));
                Arc::new(Listener { shared, stop, wanted, cursor, handed_out })
            }
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|stop| stop.strong_count() > 0);
        open.push(Arc::downgrade(&stop));
        Ok(source)
    }

    async fn ping(&self) -> Result<()> {
        self.with(|root| fs::metadata(&root).map(drop).map_err(failed("ping", &root))).await
    }

    async fn close(&self, _: Duration) -> Result<()> {
        self.shared.closed.store(true, SeqCst);
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        open.iter().filter_map(Weak::upgrade).for_each(|stop| stop.stop());
        Ok(())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }
}

#[async_trait]
impl Keeper for Directory {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let list = |root: PathBuf| {
            let mut groups = Vec::new();
            for group in Group::all(&root)? {
                groups.extend(group.info()?);
            }
            groups.sort_by(|a: &GroupInfo, b| a.name.cmp(&b.name));
            Ok(groups)
        };
        self.with(list).await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        let name = group.to_owned();
        self.with(move |root| Group::new(&root, &name).prune()).await
    }

    async fn replay(&self, group: &str, start: Start) -> Result<u64> {
        let name = group.to_owned();
        self.with(move |root| Group::new(&root, &name).replay(start)).await
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        let filter = filter.clone();
        let list = move |root: PathBuf| {
            let limit = filter.limit.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            let all = letters::all(&root)?.into_iter();
            Ok(all.filter(|letter| filter.takes(letter)).take(limit).collect())
        };
        self.with(list).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        let ids = ids.to_vec();
        let redrive = move |root: PathBuf| {
            let mut count = 0;
            for id in &ids {
                let Some(stored) = letters::stored(&root, id)? else { continue };
                let group = Group::new(&root, &stored.group);
                let redriven = group.redrive(stored.number, id.as_str(), &stored.subscription)?;
                count += u64::from(redriven);
            }
            Ok(count)
        };
        self.with(redrive).await
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        let ids = ids.to_vec();
        self.with(move |root| letters::purge(&root, &ids)).await
    }
}
