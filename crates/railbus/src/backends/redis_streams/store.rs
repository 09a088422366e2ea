//! The backend: the contracts, handed to the parts that do the work.

use super::{
    accounts::Books,
    commons::Shared,
    groups::{self, Opening},
    keys::Keys,
    lag, letters,
    listen::Listener,
    member::{Member, State},
    publish::{self, Ready, line},
    reader::Reader,
    rights,
    settings::{CAPABILITY, Settings},
    trim::Trimming,
};
use crate::{
    backend::{
        Accounts, Backend, Capability, GroupInfo, Keeper, Letter, LetterFilter, LetterId, Order,
        Outgoing, Source, Start, Subscribe,
    },
    backends::{
        gather::Gather,
        redis::link::{Link, closed},
    },
    codec::Format,
    commons::Commons,
    error::{Error, ErrorKind, Result},
    id::new_id,
    options::Options,
    predicate::Interest,
    task,
};
use async_trait::async_trait;
use redis::Value;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::Mutex as AsyncMutex, sync::watch, time::sleep};

/// How often it is asked whether groups are through: at first, and at last.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// Checks the settings, without looking at the server.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    Settings::read(options).map(drop)
}

/// Connects to a server.
///
/// # Errors
/// Returns what is wrong with the options or the server: nothing is tried again.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let settings = Settings::read(&options)?;
    task::runtime("open redis-streams")?;
    let link = Link::open(&settings.server).await?;
    let keys = Arc::new(Keys::of(&settings.stream).with_format(settings.format));
    examine(&link, &keys).await?;
    let trimming = Arc::new(Trimming::new(settings.trim));
    let line = line(&link, &keys, &trimming);
    let (books, sources) = (Books::new(&link, &keys), Mutex::new(Some(Vec::new())));
    Ok(Arc::new(Streams { settings, link, keys, trimming, line, books, sources }))
}

/// Refuses a key that holds something else, and a user who may not read it.
async fn examine(link: &Link, keys: &Keys) -> Result<()> {
    let mut command = redis::cmd("XLEN");
    command.arg(&keys.stream);
    link.ask::<Value>("open redis-streams", &command).await.map(drop)
}

#[derive(Debug)]
struct Streams {
    settings: Settings,
    link: Link,
    keys: Arc<Keys>,
    trimming: Arc<Trimming>,
    line: Gather<Ready>,
    books: Books,
    // None once closed.
    sources: Mutex<Option<Vec<Weak<dyn Open>>>>,
}

trait Open: Source + std::fmt::Debug {}
impl Open for Member {}
impl Open for Listener {}

impl Streams {
    fn check_open(&self) -> Result<()> {
        if self.link.is_closed() { Err(closed()) } else { Ok(()) }
    }

    fn keep(&self, source: &Arc<dyn Open>) -> Result<()> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = sources.as_mut().ok_or_else(closed)?;
        sources.retain(|source| source.strong_count() > 0);
        sources.push(Arc::downgrade(source));
        Ok(())
    }

    /// Publishes a batch of which some take more than an entry; to its end, even if nobody waits for it.
    async fn publish_more(&self, ready: Vec<Ready>) -> Vec<Result<()>> {
        let (link, keys) = (self.link.clone(), Arc::clone(&self.keys));
        let (trimming, count) = (Arc::clone(&self.trimming), ready.len());
        let sending = tokio::spawn(async move {
            let sent = publish::send_parts(&link, &keys, &ready).await;
            trimming.note(ready.len(), &link, &keys);
            sent
        });
        sending.await.unwrap_or_else(|_| vec![Err(closed()); count])
    }

    fn reader(&self, group: Option<&str>) -> Result<Reader> {
        Reader::new(&self.settings.server, &self.link, &self.keys, group)
    }

    async fn join(&self, group: String, request: Subscribe) -> Result<Member> {
        let name = new_id();
        let Subscribe { interest, start, lease, order, .. } = request;
        let reader = self.reader(Some(&group))?;
        reader.prepare().await?;
        rights::check(&self.link, &self.keys).await?;
        let opening = Opening {
            group: &group,
            member: &name,
            lease,
            interest: &interest,
            start,
            anew: true,
            keyed: order == Order::ByKey,
        };
        let known = groups::open(&self.link, &self.keys, &opening).await?;
        if known.state == groups::Opened::Lost {
            tracing::warn!(group, "the consumer group was deleted, or the stream with it");
        }
        Ok(Member {
            wants: Arc::new(interest.compile()),
            group,
            name,
            lease,
            interest,
            order,
            link: self.link.clone(),
            keys: Arc::clone(&self.keys),
            reader,
            state: Mutex::new(State::new(known)),
            stopped: watch::Sender::new(false),
            fetching: AsyncMutex::default(),
        })
    }

    async fn no_group(&self, name: &str) -> Error {
        let known = lag::names(&self.link, &self.keys).await.unwrap_or_default();
        let hint = match known.is_empty() {
            true => "the stream has no groups yet".into(),
            false => format!("known groups: {}", known.join(", ")),
        };
        Error::new(ErrorKind::NotFound, "groups", "there is no such group")
            .with("group", name)
            .hint(hint)
    }
}

#[async_trait]
impl Backend for Streams {
    fn capability(&self) -> &Capability {
        &CAPABILITY
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        if let Err(e) = self.check_open() {
            return vec![Err(e); batch.len()];
        }
        let mut ready = Vec::with_capacity(batch.len());
        let mut results = Vec::with_capacity(batch.len());
        for outgoing in batch {
            let made = Ready::make(outgoing, CAPABILITY.payload_max, self.settings.format);
            results.push(made.map(|one| ready.push(one)));
        }
        let sent = match ready.iter().any(Ready::is_more) {
            true => self.publish_more(ready).await,
            false => self.line.put(ready).await,
        };
        let mut sent = sent.into_iter();
        let mut next = |()| sent.next().unwrap_or_else(|| Err(closed()));
        results.into_iter().map(|made| made.and_then(&mut next)).collect()
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        self.check_open()?;
        let source: Arc<dyn Open> = match request.group.clone() {
            Some(group) => Arc::new(self.join(group, request).await?),
            None => {
                let wants = Arc::new(request.interest.compile());
                let reader = self.reader(None)?;
                Arc::new(Listener::open(&self.link, &self.keys, reader, wants).await?)
            }
        };
        self.keep(&source)?;
        Ok(source)
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        let (mut wait, mut looks) = (LOOK_MIN, lag::Looks::default());
        'look: loop {
            for (group, interest) in groups {
                if !looks.is_settled(&self.link, &self.keys, group, interest).await? {
                    sleep(wait).await;
                    wait = (wait * 2).min(LOOK_MAX);
                    continue 'look;
                }
            }
            return Ok(());
        }
    }

    fn keeps_metadata(&self) -> bool {
        self.settings.format != Format::Plain
    }

    async fn withdraw(&self, event_id: &str) -> Result<bool> {
        self.check_open()?;
        publish::withdraw(&self.link, &self.keys, event_id).await
    }

    async fn ping(&self) -> Result<()> {
        self.link.ask::<Value>("ping", &redis::cmd("PING")).await.map(drop)
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sources: Vec<_> = sources.into_iter().flatten().filter_map(|s| s.upgrade()).collect();
        sources.iter().for_each(|source| source.stop());
        let closing = futures_util::future::join_all(sources.iter().map(|source| source.close()));
        let _ = task::within(deadline, closing).await;
        self.books.close();
        self.link.close();
        Ok(())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        Some(self)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(&self.books)
    }

    fn commons(&self) -> Option<Arc<dyn Commons>> {
        Some(Arc::new(Shared { link: self.link.clone(), keys: Arc::clone(&self.keys) }))
    }
}

#[async_trait]
impl Keeper for Streams {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        lag::groups(&self.link, &self.keys).await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        match groups::prune(&self.link, &self.keys, group).await? {
            true => Ok(()),
            false => Err(self.no_group(group).await),
        }
    }

    async fn replay(&self, group: &str, start: Start) -> Result<u64> {
        match groups::replay(&self.link, &self.keys, group, start).await? {
            Some(again) => lag::replayed(&self.link, &self.keys, group, again).await,
            None => Err(self.no_group(group).await),
        }
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        letters::letters(&self.link, &self.keys, filter).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        // Of ids that are none the server is not asked.
        self.check_open()?;
        letters::redrive(&self.link, &self.keys, ids).await
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        // Of ids that are none the server is not asked.
        self.check_open()?;
        letters::purge(&self.link, &self.keys, ids).await
    }
}
