//! Opening a bus.

#[cfg(feature = "testing")]
use super::watched::{Around, Tap, Watched};
use super::{
    asking::Asking,
    beside::Beside,
    delayed::Delayed,
    early::Early,
    members::Members,
    table::{Phase, Table},
};
use crate::{
    backend::{Accounts, Backend, Broadcast, Capability, Journal, Keeper},
    backends,
    commons::Commons,
    error::{BoxError, Error, ErrorKind, Result},
    handler::{Call, FromDelivery, World},
    instrument::Counters,
    options::IntoOptions,
};
use std::{
    any::Any,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Publish and subscribe: a table of subscriptions over one backend. Cheap to clone.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Payload, State};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?.state(String::from("north"));
/// let tell = async |lines: Payload<u32>, tenant: State<String>| println!("{}: {lines}", *tenant);
/// bus.on("order.placed").group("billing").run(tell).await?;
/// bus.publish(Event::new("order.placed").payload(2_u32)).await?;
/// bus.idle().await?; // everything published so far is through
/// assert_eq!((bus.capability().name, bus.counters().succeeded.get()), ("memory", 1));
/// bus.close().await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Bus(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) table: Table,
    pub(super) members: tokio::sync::Mutex<Members>,
    pub(super) counters: Arc<Counters>,
    /// Dispatches under way and the listener to broadcasts, so that close can wait for them.
    pub(super) tasks: TaskTracker,
    /// Broadcasts that are not due yet.
    pub(super) delayed: Delayed,
    /// Who hears of broadcasts before their turn.
    pub(super) early: Early,
    /// Further tries of broadcasts.
    pub(super) retries: TaskTracker,
    /// How often broadcasts may have been missed.
    pub(super) gaps: AtomicU64,
    /// Whether broadcasts may be missed now: listening failed, and has not begun again.
    pub(super) deaf: AtomicBool,
    /// Told when the bus begins to drain.
    pub(super) closing: CancellationToken,
    /// Told when the time for closing is up: ends what still runs of broadcasts.
    pub(super) aborting: CancellationToken,
    /// Where members run.
    pub(super) runtime: OnceLock<Handle>,
    /// Who asked and waits for a reply.
    pub(super) asking: Asking,
    /// What ended one of the groups by itself.
    pub(super) failed: watch::Sender<Option<Error>>,
    /// Named producers and consumers, if there are any.
    pub(super) beside: OnceLock<Box<dyn Beside>>,
    /// What handlers take their arguments from, beside the event.
    pub(super) world: Mutex<World>,
    /// Whether broadcasts are delivered inside publish.
    pub(super) inline: bool,
    /// Whether events are encoded even where they stay in process.
    pub(super) encodes: bool,
    /// What a test watches it with.
    #[cfg(feature = "testing")]
    pub(super) watched: Watched,
}

impl Bus {
    /// Opens a bus in memory: events stay in this process and are delivered inside publish.
    #[must_use]
    pub fn new() -> Self {
        Self::over(Arc::new(backends::memory::Memory::default()))
    }

    /// Opens the bus that a URL such as `sqlite:orders.db`, a map, a table or
    /// [`Options`](crate::options::Options) name.
    ///
    /// # Errors
    /// Returns a config error for a URL, backend or setting that is unknown, an unsupported one
    /// for a backend that is not in this build, else what the backend says.
    ///
    /// # Examples
    /// ```
    /// use railbus::{bus::Bus, options::Options};
    /// use serde_json::json;
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let same = Bus::open(json!({ "backend": "memory" })).await?;
    /// let told = Bus::open(Options::from_variables([("RAILBUS_URL", "memory:")])?).await?;
    /// # Ok::<_, railbus::error::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn open(options: impl IntoOptions) -> Result<Self> {
        Ok(Self::over(backends::open(options.into_options()?).await?))
    }

    /// Opens a bus over a backend of the caller's.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, backends::memory::Memory};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let memory = Memory::default();
    /// let bus = Bus::over(Arc::new(memory));
    /// assert!(bus.ping().await.is_ok() && bus.is_quiet().await?);
    /// assert!(bus.keeper()?.groups().await?.is_empty());
    /// assert!(bus.accounts().is_none(), "memory keeps no accounts of an app's runs");
    /// assert!(bus.journal().is_err(), "nor runs of pipelines");
    /// assert!(bus.commons().is_ok(), "what its connections have in common is there");
    /// bus.close_within(Duration::from_secs(5)).await?;
    /// bus.close().await?; // again is fine
    /// assert!(bus.publish(Event::new("tick")).await.is_err());
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn over(backend: Arc<dyn Backend>) -> Self {
        let tasks = TaskTracker::new();
        let bus = Self(Arc::new(Inner {
            inline: backend.capability().broadcast == Broadcast::Inline,
            encodes: backend.encodes(),
            backend,
            table: Table::new(tasks.token()),
            members: tokio::sync::Mutex::default(),
            world: Mutex::default(),
            counters: Arc::default(),
            tasks,
            delayed: Delayed::default(),
            retries: TaskTracker::new(),
            early: Early::default(),
            gaps: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
            closing: CancellationToken::new(),
            aborting: CancellationToken::new(),
            runtime: OnceLock::new(),
            asking: Asking::default(),
            beside: OnceLock::new(),
            failed: watch::Sender::new(None),
            #[cfg(feature = "testing")]
            watched: Watched::default(),
        }));
        let inner: Arc<dyn Any + Send + Sync> = Arc::<Inner>::clone(&bus.0);
        bus.0.world().set_bus(Arc::downgrade(&inner));
        bus
    }

    /// Gives the bus a value that handlers can take as [`State<T>`](crate::State): those of
    /// subscriptions that open from here on.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(self, state: T) -> Self {
        self.0.world().provide(state);
        self
    }

    /// Returns what the backend guarantees.
    #[must_use]
    pub fn capability(&self) -> &Capability {
        self.0.backend.capability()
    }

    /// Returns the groups and dead letters that the backend keeps.
    ///
    /// # Errors
    /// Returns an unsupported error if it keeps none.
    pub fn keeper(&self) -> Result<&dyn Keeper> {
        let able = able(|c| c.dead_letters);
        let refuse =
            || self.capability().refuse("keep", "keeps neither groups nor dead letters", &able);
        self.0.backend.keeper().ok_or_else(refuse)
    }

    /// Returns the journal of runs that the backend keeps: it does not keep the bus open.
    ///
    /// # Errors
    /// Returns an unsupported error that names the backends that keep one, if this one doesn't.
    pub fn journal(&self) -> Result<Arc<dyn Journal>> {
        let refuse = || self.capability().refuse("journal", "keeps no runs", &able(|c| c.journal));
        self.0.backend.journal().ok_or_else(refuse)
    }

    /// Returns what the backend lets the members of a fleet have in common: it does not keep the bus
    /// open.
    ///
    /// # Errors
    /// Returns an unsupported error that names the backends that have it, if this one doesn't.
    pub fn commons(&self) -> Result<Arc<dyn Commons>> {
        let able = able(|c| backends::COMMONS.contains(&c.name));
        let what = "keeps nothing that the members of a fleet have in common";
        let refuse = || self.capability().refuse("commons", what, &able);
        self.0.backend.commons().ok_or_else(refuse)
    }

    /// Returns the accounts of runs, if the backend keeps them.
    #[must_use]
    pub fn accounts(&self) -> Option<&dyn Accounts> {
        self.0.backend.accounts()
    }

    /// Returns what this bus did in this process.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Tells whether the backend answers.
    ///
    /// # Errors
    /// Returns what the backend says if it doesn't.
    pub async fn ping(&self) -> Result<()> {
        self.0.backend.ping().await
    }

    /// Waits until a group ends by itself, be it because its policy said stop or because it was
    /// pruned, and returns why.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, Retry, delivery::Then};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let on = bus.on("tick").group("g").retry(Retry::attempts(1)).then(Then::Stop);
    /// on.run(async |_: Event| Err::<(), _>("the disk is full")).await?;
    /// bus.publish(Event::new("tick")).await?;
    /// assert!(bus.failed().await.to_string().contains("the disk is full"));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub async fn failed(&self) -> Error {
        let mut failed = self.0.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(closed)
    }

    /// Puts something around the handlers of subscriptions that open from here on.
    #[cfg(feature = "testing")]
    pub(crate) fn surround(&self, around: Around) {
        self.0.watched.add_around(around);
    }

    /// Hears of what is published from here on.
    #[cfg(feature = "testing")]
    pub(crate) fn tap(&self, tap: Tap) {
        self.0.watched.add_tap(tap);
    }

    pub(super) fn phase(&self) -> Phase {
        self.0.phase()
    }

    pub(crate) fn downgrade(&self) -> WeakBus {
        WeakBus(Arc::downgrade(&self.0))
    }

    pub(super) fn check_open(&self, operation: &'static str) -> Result<()> {
        match self.phase() {
            Phase::Open => Ok(()),
            _ => Err(Error::new(ErrorKind::Closed, operation, "the bus is closed")),
        }
    }
}

/// A bus that is not kept alive.
#[derive(Clone)]
pub(crate) struct WeakBus(Weak<Inner>);

impl WeakBus {
    pub(crate) fn upgrade(&self) -> Option<Bus> {
        self.0.upgrade().map(Bus)
    }
}

impl fmt::Debug for WeakBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakBus")
    }
}

impl Inner {
    fn phase(&self) -> Phase {
        self.table.now().phase
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase() == Phase::Closed
    }
}

impl Drop for Inner {
    /// A bus that was not closed lets go all the same: nothing is fetched any more, and what runs
    /// finishes.
    fn drop(&mut self) {
        self.members.get_mut().stop();
    }
}

/// Names the backends of this build that can do something.
pub(super) fn able(can: fn(&Capability) -> bool) -> Vec<&'static str> {
    let rows = backends::all().filter(|row| can(row.capability));
    rows.map(|row| row.scheme).collect()
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "bus", "the bus is closed")
}

impl FromDelivery for Bus {
    const SINGLE: bool = false;

    /// Takes the bus that the subscription is on. A handler that captures its bus instead keeps it
    /// alive for ever.
    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        let inner = call.world().bus().and_then(|inner| inner.downcast::<Inner>().ok());
        Ok(Self(inner.ok_or_else(closed)?))
    }
}

impl Default for Bus {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bus({}, {:?})", self.capability().name, self.phase())
    }
}
