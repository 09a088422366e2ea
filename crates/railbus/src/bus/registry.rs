//! A cache that events on the bus keep true.

use super::{
    cache::{Cache, Found, Loading},
    early::Hear,
    loader::Loader,
    open::{Bus, WeakBus},
    subscription::SubscriptionId,
    waits::{self, Wait},
};
use crate::{
    error::{Error, ErrorKind, Result},
    event::{Event, Type},
    predicate::{self, Predicate},
    task::let_go,
    topic::Pattern,
};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Map, Value};
use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// The topic and the payload's key that a registry uses unless it is said.
const TOPIC: &str = "registry:instances";
const KEY: &str = "instance_id";

/// How long a value is kept, and how many of them, unless it is said.
const TTL: Duration = Duration::from_secs(300);
const MAX_SIZE: usize = 1000;

/// Values by their ids, loaded when they are asked for and kept until an event says that they
/// changed. Cheap to clone; clones share what they keep.
///
/// Every process that has one hears of every change: an event of type `updated`, `deleted` or
/// `deactivated` on its topic, whose payload names the id under its key. By default these are
/// `registry:instances` and `instance_id`, which is what its own `publish_*` use. An event of theirs
/// that names no id may mean any of them: then all are forgotten.
///
/// A value is never served longer than its time to live (default 5 minutes), and never kept if it
/// may be older than a change: not one whose loading was under way when the change came, and none at
/// all after events may have been missed, such as while a server could not be reached
/// ([`Bus::gaps`]). What the loader says no to is not kept. Many who ask for one id at once make
/// one load. At most 1,000 values are kept; the one that was not asked for the longest goes first.
///
/// # Examples
/// ```
/// use railbus::{Bus, CachedRegistry, Event, Type, Value, json};
/// use std::io;
///
/// async fn load_bot(bot_id: String) -> io::Result<Value> {
///     println!("loading {bot_id}");
///     Ok(json!({ "bot_id": bot_id }))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let bots = CachedRegistry::new(load_bot).topic("registry:bots").key("bot_id").open(&bus).await?;
/// bots.get("b1").await?;
/// assert_eq!(bots.get("b1").await?["bot_id"], "b1"); // from the cache
/// let change = json!({ "bot_id": "b1", "config": { "model": "x" } });
/// bus.publish(Event::new(Type::UPDATED).topic("registry:bots").payload(change)).await?;
/// assert!(bots.is_empty());
/// bots.get("b1").await?; // loaded again
/// bots.publish_updated("b1").await?; // the same without writing the event by hand
/// assert_eq!(bots.len(), 0);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct CachedRegistry<V>(Arc<Inner<V>>);

struct Inner<V> {
    number: u64,
    cache: Arc<Cache<V>>,
    loader: Arc<dyn Loader<V>>,
    // Weak: a registry may be the state of the bus it is on.
    bus: WeakBus,
    subscription: SubscriptionId,
    // Hears of a change although handlers of the ones before it take their time.
    _early: Arc<Hear>,
    topic: String,
    key: String,
}

impl<V> Clone for CachedRegistry<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Send + Sync + 'static> CachedRegistry<V> {
    /// Starts a registry over the program's own loader.
    // It opens before it is one.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(loader: impl Loader<V>) -> Registering<V> {
        Registering {
            loader: Arc::new(loader),
            topic: TOPIC.into(),
            key: KEY.into(),
            types: [Type::UPDATED, Type::DELETED, Type::DEACTIVATED].map(Into::into).to_vec(),
            ttl: TTL,
            max_size: MAX_SIZE,
        }
    }

    /// Returns the value of `id`: the one that is kept, else loaded.
    ///
    /// Once its bus closes, which tells of no change any more, it loads each time.
    ///
    /// # Errors
    /// Returns a handler error with what the loader said; all who waited for that load get it. Asked
    /// by a loader for the value that it loads, or for one that waits for that, it returns a config
    /// error: it would wait for ever. A loader that asks in a task of its own is not known to.
    ///
    /// # Cancel safety
    /// A load goes on as long as anybody waits for it.
    pub async fn get(&self, id: &str) -> Result<Arc<V>> {
        let inner = &self.0;
        let Some(gaps) = inner.gaps() else {
            let _wait = Wait::begin(inner.number, id)?;
            return inner.load(id).await;
        };
        let loading = match inner.cache.find(id, gaps, || inner.load(id)) {
            Found::Kept(value) => return Ok(value),
            Found::Loading(loading) => loading,
        };
        let Loading { number, shared } = loading;
        let wait = Wait::begin(inner.number, id)?;
        let loaded = shared.await;
        drop(wait);
        inner.cache.ended(id, number, inner.gaps(), loaded.as_ref().ok());
        loaded
    }

    /// Forgets the value of `id` here, and lets no load that is under way be kept; others are not
    /// told.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, CachedRegistry};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let load = async |id: String| Ok::<_, railbus::Error>(id.len());
    /// let names = CachedRegistry::new(load).open(&Bus::new()).await?;
    /// # let bus = Bus::new();
    /// # let names = CachedRegistry::new(load).open(&bus).await?;
    /// names.get("one").await?;
    /// names.get("three").await?;
    /// names.forget("one");
    /// assert_eq!(names.len(), 1);
    /// names.clear();
    /// assert!(names.is_empty());
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub fn forget(&self, id: &str) {
        self.0.cache.forget(id);
    }

    /// Forgets all values here.
    pub fn clear(&self) {
        self.0.cache.clear();
    }

    /// Returns how many values are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.cache.len()
    }

    /// Tells whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells all who are on the bus that `id` changed, and forgets it here at once.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, CachedRegistry, Event, topic};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::new();
    /// let audit = |e: &Event| assert_eq!(e.get::<&str>("instance_id"), Some("i-1"));
    /// bus.on(topic("registry:*")).run(audit).await?;
    /// let load = async |id: String| Ok::<_, railbus::Error>(id.len());
    /// let registry = CachedRegistry::new(load).open(&bus).await?;
    /// registry.publish_updated("i-1").await?;
    /// registry.publish_deactivated("i-1").await?;
    /// registry.publish_deleted("i-1").await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_updated(&self, id: &str) -> Result<()> {
        self.publish(Type::UPDATED, id).await
    }

    /// Tells all who are on the bus that `id` is gone, and forgets it here at once.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_deleted(&self, id: &str) -> Result<()> {
        self.publish(Type::DELETED, id).await
    }

    /// Tells all who are on the bus that `id` was switched off, and forgets it here at once.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_deactivated(&self, id: &str) -> Result<()> {
        self.publish(Type::DEACTIVATED, id).await
    }

    async fn publish(&self, event_type: &str, id: &str) -> Result<()> {
        let Inner { topic, key, bus, .. } = &*self.0;
        let bus = bus.upgrade().ok_or_else(|| {
            Error::new(ErrorKind::Closed, "publish", "the bus of the registry is gone")
        })?;
        // Who told of it is not to get the old value until the event has come back.
        self.0.cache.forget(id);
        let payload = Map::from_iter([(key.clone(), Value::from(id))]);
        bus.publish(Event::new(event_type).topic(topic).payload(payload)).await.map(drop)
    }
}

impl<V: Send + Sync + 'static> Inner<V> {
    /// Returns how often events may have been missed; none if changes are not heard of now.
    fn gaps(&self) -> Option<u64> {
        self.bus.upgrade().and_then(|bus| bus.hears())
    }

    /// Loads a value; a panic of the loader is its error.
    fn load(&self, id: &str) -> BoxFuture<'static, Result<Arc<V>>> {
        let (loader, id, number) = (Arc::clone(&self.loader), id.to_owned(), self.number);
        // Called when it is awaited: the loader is the user's code, and may ask for other ids.
        Box::pin(async move {
            let loading = async { loader.load(id.clone()).await };
            let loading = waits::load(number, &id, loading);
            let loaded = AssertUnwindSafe(loading).catch_unwind().await;
            let loaded = loaded.unwrap_or_else(|panic| {
                let_go(panic);
                Err("it panicked".into())
            });
            loaded.map(Arc::new).map_err(|why| {
                let error = Error::new(ErrorKind::Handler, "load", "the registry's loader failed");
                error.with("id", id).because(why)
            })
        })
    }
}

impl<V> Drop for Inner<V> {
    fn drop(&mut self) {
        if let Some(bus) = self.bus.upgrade() {
            bus.unsubscribe(self.subscription);
        }
    }
}

/// A registry in the making; [`Registering::open`] puts it on a bus.
///
/// # Examples
/// ```
/// use railbus::{Bus, CachedRegistry, Type, bus::Registering};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let load = async |id: String| Ok::<_, railbus::Error>(id.len());
/// let registering: Registering<usize> = CachedRegistry::new(load)
///     .topic("registry:bots")
///     .key("bot.id") // a key inside a key
///     .types([Type::UPDATED, Type::DELETED, Type::DEACTIVATED, Type::ACTIVATED])
///     .ttl(Duration::from_secs(60))
///     .max_size(100);
/// let bus = Bus::new();
/// assert_eq!(*registering.open(&bus).await?.get("b-1").await?, 3);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "a registry in the making keeps nothing until it is opened"]
pub struct Registering<V> {
    loader: Arc<dyn Loader<V>>,
    topic: String,
    key: String,
    types: Vec<String>,
    ttl: Duration,
    max_size: usize,
}

impl<V: Send + Sync + 'static> Registering<V> {
    /// Sets the topic on which changes are told (default `registry:instances`).
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets where in the payload the id stands (default `instance_id`).
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets which types of events tell of a change (default `updated`, `deleted`, `deactivated`);
    /// without any, all on the topic do.
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how long a value is kept at most (default 5 minutes).
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how many values are kept at most (default 1,000).
    pub fn max_size(mut self, max_size: usize) -> Self {
        self.max_size = max_size;
        self
    }

    /// Opens it on a bus: from here on it hears of changes. It does not keep the bus open.
    ///
    /// # Errors
    /// Returns a config error for a topic that is a pattern, a key that is empty, or a cache that
    /// keeps nothing; an unsupported one for a backend without broadcast; else what the backend says.
    ///
    /// # Cancel safety
    /// If it is dropped, nothing is open.
    pub async fn open(self, bus: &Bus) -> Result<CachedRegistry<V>> {
        self.check()?;
        bus.check_whole("open registry")?;
        let Self { loader, topic, key, types, ttl, max_size } = self;
        let cache = Arc::new(Cache::new(ttl, max_size, bus.gaps()));
        let (heard, path) = (Arc::downgrade(&cache), key.clone());
        let types = types.iter().map(|name| predicate::event_type(name));
        let which = types.reduce(|one, other| one | other).map_or_else(
            || predicate::topic(&topic),
            |types: Predicate| predicate::topic(&topic) & types,
        );
        let changed = move |event: &Event| {
            if let Some(cache) = heard.upgrade() {
                cache.changed(event, &path);
            }
        };
        let early = bus.0.early.add(&which, changed.clone());
        // Before all others who hear of the change, and may ask for the value then.
        let subscription = bus.on(which).priority(i32::MIN).run(changed).await?.id();
        let bus = bus.downgrade();
        let number = waits::number();
        let inner = Inner { number, cache, loader, bus, subscription, _early: early, topic, key };
        Ok(CachedRegistry(Arc::new(inner)))
    }

    fn check(&self) -> Result<()> {
        let config = |why: &'static str, hint: &str| {
            Err(Error::new(ErrorKind::Config, "open registry", why).hint(hint))
        };
        if !Pattern::new(&*self.topic).is_exact() {
            return config(
                "the topic of a registry is a pattern",
                "name the one topic it is told on",
            );
        }
        if self.key.is_empty() {
            return config("the key of a registry is empty", "name where the id is in the payload");
        }
        if self.ttl.is_zero() || self.max_size == 0 {
            return config(
                "a registry with a ttl or a max_size of 0 keeps nothing",
                "call the loader itself, or set more",
            );
        }
        Ok(())
    }
}

impl<V> fmt::Debug for CachedRegistry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CachedRegistry({}, {} kept)", self.0.topic, self.0.cache.len())
    }
}

impl<V> fmt::Debug for Registering<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registering({})", self.topic)
    }
}
