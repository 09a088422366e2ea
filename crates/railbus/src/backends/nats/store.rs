//! The backend: the contracts, handed to the parts that do the work.

use super::{
    api::Api,
    fault::closed,
    groups, lag, letters,
    link::Link,
    listen::Listener,
    member::Member,
    publish::{self, How},
    redrive,
    settings::{CAPABILITY, SETTINGS, Settings, payload_max},
    streams::Streams,
    trim::Trimming,
};
use crate::{
    backend::{
        Backend, Broadcast, Capability, GroupInfo, Keeper, Letter, LetterFilter, LetterId, Order,
        Outgoing, Replay, Source, Start, Subscribe,
    },
    codec::Format,
    error::Result,
    options::Options,
    predicate::Interest,
    task,
};
use async_trait::async_trait;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::time::sleep;

/// The backends that have groups.
const ABLE: &[&str] = &["redis-streams", "postgres-queue", "sqlite", "memory"];

/// How often it is asked whether groups are through: at first, and at last.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// Checks the settings, without looking at the server.
///
/// # Errors
/// Returns a config error that names the setting that is unknown or wrong.
pub fn check(options: &Options) -> Result<()> {
    options.check(SETTINGS)?;
    Settings::read(options).map(drop)
}

/// Connects to a server, and makes the streams that are not there yet.
///
/// # Errors
/// Returns what is wrong with the options or the server: nothing is tried again.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    let settings = Settings::read(&options)?;
    task::runtime("open nats")?;
    let link = Link::open(&settings.server).await?;
    let mut capability = CAPABILITY;
    capability.payload_max = payload_max(link.client().server_info().max_payload);
    let streams = match settings.jetstream {
        true => {
            let api = Api::new(link.clone(), &settings.api);
            let streams = Streams::new(api, &settings);
            streams.prepare().await?;
            capability.dedup = settings.limits.window;
            Some(Arc::new(streams))
        }
        false => {
            capability = live(&capability);
            None
        }
    };
    let (trimming, sources) = (Arc::default(), Mutex::new(Some(Vec::new())));
    Ok(Arc::new(Nats { settings, capability, link, streams, trimming, sources }))
}

/// Returns what is left of what is guaranteed where nothing is kept.
fn live(all: &Capability) -> Capability {
    let mut live = Capability::inline("nats");
    live.broadcast = Broadcast::Live;
    live.ordering = crate::backend::Ordering::PerPublisher;
    live.payload_max = all.payload_max;
    live.metadata_max = all.metadata_max;
    live.batch_max = all.batch_max;
    live
}

#[derive(Debug)]
struct Nats {
    settings: Settings,
    capability: Capability,
    link: Link,
    // None where nothing is kept.
    streams: Option<Arc<Streams>>,
    trimming: Arc<Trimming>,
    // None once closed.
    sources: Mutex<Option<Vec<Weak<dyn Open>>>>,
}

trait Open: Source + std::fmt::Debug {}
impl Open for Member {}
impl Open for Listener {}

impl Nats {
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

    fn streams(&self, operation: &'static str) -> Result<&Arc<Streams>> {
        self.check_open()?;
        let without =
            || self.capability.refuse(operation, "keeps nothing with jetstream=false", ABLE);
        self.streams.as_ref().ok_or_else(without)
    }
}

#[async_trait]
impl Backend for Nats {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        if let Err(e) = self.check_open() {
            return vec![Err(e); batch.len()];
        }
        let payload_max = self.capability.payload_max;
        let Some(streams) = &self.streams else {
            let Settings { prefix, format, .. } = &self.settings;
            let how = How { prefix, format: *format, payload_max, once: false };
            return publish::publish_live(&self.link, batch, how).await;
        };
        let results = publish::publish(streams, batch, payload_max).await;
        self.trimming.note(batch.len(), streams);
        results
    }

    async fn subscribe(&self, request: Subscribe) -> Result<Arc<dyn Source>> {
        self.check_open()?;
        let source: Arc<dyn Open> = match request.group.clone() {
            Some(group) => {
                let refuse = |what, able| Err(self.capability.refuse("subscribe", what, able));
                if request.order == Order::ByKey {
                    let able = &["redis-streams", "postgres-queue", "sqlite", "memory"];
                    return refuse("keeps no order by key", able);
                }
                if matches!(request.start, Start::At(_)) && self.capability.replay != Replay::Time {
                    let able = &["redis-streams", "postgres-queue", "sqlite"];
                    return refuse("can't start at a time", able);
                }
                Arc::new(Member::join(self.streams("subscribe")?, group, request).await?)
            }
            None => {
                let wants = Arc::new(request.interest.compile());
                let Settings { prefix, format, .. } = &self.settings;
                Arc::new(Listener::open(&self.link, prefix, wants, *format).await?)
            }
        };
        self.keep(&source)?;
        Ok(source)
    }

    fn is_bare(&self) -> bool {
        self.settings.format == Format::Plain
    }

    async fn settled(&self, groups: &[(String, Interest)]) -> Result<()> {
        let Some(streams) = &self.streams else { return Ok(()) };
        let mut wait = LOOK_MIN;
        'look: loop {
            for (group, _) in groups {
                if !lag::is_settled(streams, group).await? {
                    sleep(wait).await;
                    wait = (wait * 2).min(LOOK_MAX);
                    continue 'look;
                }
            }
            return Ok(());
        }
    }

    async fn ping(&self) -> Result<()> {
        self.check_open()?;
        self.link.flush("ping").await
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sources: Vec<_> = sources.into_iter().flatten().filter_map(|s| s.upgrade()).collect();
        sources.iter().for_each(|source| source.stop());
        let closing = futures_util::future::join_all(sources.iter().map(|source| source.close()));
        let _ = task::within(deadline, closing).await;
        self.link.close().await;
        Ok(())
    }

    fn keeper(&self) -> Option<&dyn Keeper> {
        self.streams.is_some().then_some(self)
    }
}

#[async_trait]
impl Keeper for Nats {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        lag::groups(self.streams("groups")?).await
    }

    async fn prune(&self, group: &str) -> Result<()> {
        let streams = self.streams("prune")?;
        match groups::prune(streams, group).await? {
            true => Ok(()),
            false => Err(lag::no_group(streams, group).await),
        }
    }

    async fn replay(&self, group: &str, _: Start) -> Result<u64> {
        self.streams("replay")?;
        let able = &["redis-streams", "postgres-queue", "sqlite"];
        let refused = self.capability.refuse("replay", "can't show a group its past again", able);
        Err(refused.with("group", group))
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>> {
        letters::letters(self.streams("letters")?, filter).await
    }

    async fn redrive(&self, ids: &[LetterId]) -> Result<u64> {
        redrive::redrive(self.streams("redrive")?, ids).await
    }

    async fn purge(&self, ids: &[LetterId]) -> Result<u64> {
        letters::purge(self.streams("purge")?, ids).await
    }
}
