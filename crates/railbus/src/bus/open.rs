//! Opening a bus, and letting go of it.

use super::{
    members::Members,
    table::{Phase, Table},
};
use crate::{
    backend::{Accounts, Backend, Broadcast, Capability, Keeper},
    backends, context,
    error::{BoxError, Error, ErrorKind, Result},
    handler::{Call, FromDelivery, World},
    instrument::Counters,
    options::IntoOptions,
};
use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicU64},
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long [`Bus::close`] waits for handlers.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Publish and subscribe: a table of subscriptions over one backend. Cheap to clone.
#[derive(Clone)]
pub struct Bus(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) table: Table,
    pub(super) members: tokio::sync::Mutex<Members>,
    pub(super) counters: Arc<Counters>,
    /// Dispatches under way and the listener to broadcasts, so that close can wait for them.
    pub(super) tasks: TaskTracker,
    /// Further tries of broadcasts.
    pub(super) retries: TaskTracker,
    /// How many broadcasts the listener has handed on.
    pub(super) heard: AtomicU64,
    /// Told when the bus begins to drain.
    pub(super) closing: CancellationToken,
    /// Where members run.
    pub(super) runtime: OnceLock<Handle>,
    /// What ended one of the groups by itself.
    pub(super) failed: watch::Sender<Option<Error>>,
    /// What handlers take their arguments from, beside the event.
    pub(super) world: Mutex<World>,
    /// Whether broadcasts are delivered inside publish.
    pub(super) inline: bool,
    /// Whether events are encoded even where they stay in process.
    pub(super) encodes: bool,
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
            retries: TaskTracker::new(),
            heard: AtomicU64::new(0),
            closing: CancellationToken::new(),
            runtime: OnceLock::new(),
            failed: watch::Sender::new(None),
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

    /// Closes the bus: nothing new starts, what runs finishes, for at most 30 seconds.
    ///
    /// # Errors
    /// As [`Bus::close_within`].
    pub async fn close(&self) -> Result<()> {
        self.close_within(CLOSE_WITHIN).await
    }

    /// Closes the bus: nothing new is fetched, handlers in flight finish and may still publish;
    /// what has not finished at the deadline is given back. Closing again waits for the first.
    ///
    /// Inside a handler it returns at once and the closing goes on without it, since it can't wait
    /// for the delivery it is called from.
    ///
    /// # Errors
    /// Returns an error if the backend can't let go.
    ///
    /// # Cancel safety
    /// If it is dropped, the bus stays closed to new events; call it again to finish.
    pub async fn close_within(&self, deadline: Duration) -> Result<()> {
        let draining = self.drain();
        if context::depth() == 0 {
            return draining.finish(deadline).await;
        }
        tokio::spawn(async move {
            if let Err(error) = draining.finish(deadline).await {
                tracing::warn!(%error, "the bus did not close well");
            }
        });
        Ok(())
    }

    /// Stops fetching and publishing from outside, and returns at once.
    pub fn drain(&self) -> Draining {
        self.0.table.enter(Phase::Draining);
        self.0.closing.cancel();
        if let Ok(members) = self.0.members.try_lock() {
            members.stop();
        }
        Draining(self.clone())
    }

    pub(super) fn phase(&self) -> Phase {
        self.0.phase()
    }

    /// Tells whether a broadcast subscription here may want events of this type.
    pub(crate) fn hears(&self, event_type: &str) -> bool {
        self.0.table.now().hears(event_type)
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
    let rows = backends::TABLE.iter().filter(|row| can(row.capability));
    rows.map(|row| row.scheme).collect()
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "bus", "the bus is closed")
}

/// A bus that stopped fetching.
#[derive(Debug)]
#[must_use = "draining goes on when finished"]
pub struct Draining(Bus);

impl Draining {
    /// Waits for what runs and gives back the rest at the deadline; the backend stays open, so
    /// that what is stored can still be asked.
    pub async fn settle(self, deadline: Duration) -> Self {
        let (inner, began) = (&self.0.0, Instant::now());
        // One deadline for all: a subscription that hangs while it opens holds this lock.
        let rest = || deadline.saturating_sub(began.elapsed());
        if let Ok(mut members) = timeout(deadline, inner.members.lock()).await {
            members.stop();
            members.drain(rest()).await;
        }
        for tasks in [&inner.tasks, &inner.retries] {
            tasks.close();
            let _ = timeout(rest(), tasks.wait()).await;
        }
        self
    }

    /// Waits for what runs, gives back the rest at the deadline and closes the backend.
    ///
    /// # Errors
    /// Returns an error if the backend can't let go.
    pub async fn finish(self, deadline: Duration) -> Result<()> {
        let Self(bus) = self.settle(deadline).await;
        bus.0.table.enter(Phase::Closed);
        // What did not end in time finds its subscription cancelled at its next try.
        bus.0.table.clear();
        bus.0.backend.close(deadline).await
    }
}

impl FromDelivery for Bus {
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
