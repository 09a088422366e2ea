//! Consumers: programs, or parts of one, that handle a group's events.

use super::{
    gate::Gate,
    open::{Bus, able},
    subscribe::On,
};
use crate::{
    backend::Backend,
    backends,
    clock::parse_duration,
    consumer::Pull,
    delivery::Then,
    error::{Error, ErrorKind, Result},
    options::{IntoOptions, Options, Setting},
    predicate::Predicate,
    shutdown::Signals,
};
use std::{fmt, future::Future, sync::Arc, time::Duration};

/// How long [`Consumer::stop`] waits for handlers.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A member of one group that fetches its events and runs a handler for each. Cheap to clone.
///
/// Nothing is fetched before [`Consumer::start`], when all handlers are in the table, and never more
/// than there are free workers: nothing is claimed and parked. What goes wrong in between, be it the
/// connection, a handler or bytes that are no event, does not end it: it goes on, with growing waits,
/// for ever. Only a policy that says [`Then::Stop`](crate::delivery::Then::Stop), a group that is
/// pruned, and a backend that says that no later try can help do.
///
/// # Examples
/// ```
/// use railbus::{Consumer, Event, Payload, Value, json};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let consumer = Consumer::open("memory:?group=workers&batch_size=10&max_workers=5").await?;
/// let created = |user: Payload<Value>| println!("Processing user creation: {user}");
/// let placed = async |order: Payload<Value>| println!("Processing order: {order}");
/// consumer.on("user.created").run(created).await?;
/// consumer.on("order.placed").run(placed).await?;
/// consumer.start().await?; // from here on it fetches
/// # consumer.bus().publish(("order.placed", json!({ "id": 7 }))).await?;
/// # consumer.bus().idle().await?;
/// # assert_eq!(consumer.bus().counters().succeeded.get(), 1);
/// consumer.stop().await?; // or until_signal(): SIGINT or SIGTERM, then the same
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Consumer {
    bus: Bus,
    group: Arc<str>,
    terms: Settings,
    gate: Arc<Gate>,
}

/// What can be set for a consumer.
#[derive(Clone, Copy, Default)]
struct Settings {
    workers: Option<usize>,
    lease: Option<Duration>,
    pull: Pull,
}

/// A setting, and who reads it.
type Read = (Setting, fn(&mut Settings, &str) -> Result<(), &'static str>);

const SETTINGS: [Read; 4] = [
    (
        Setting {
            key: "batch_size",
            help: "how many events are fetched at once at most (default: as many as there are free workers, and never more)",
        },
        |settings, text| count(text).map(|count| settings.pull.batch = Some(count)),
    ),
    (
        Setting {
            key: "max_workers",
            help: "how many events are handled at once at most (default 128)",
        },
        |settings, text| count(text).map(|count| settings.workers = Some(count)),
    ),
    (
        Setting {
            key: "poll_interval",
            help: "how often is fetched at most; behind a full batch the next is fetched at once (default 0s: as soon as there is an event)",
        },
        |settings, text| duration(text).map(|every| settings.pull.every = every),
    ),
    (
        Setting {
            key: "lease",
            help: "how long an event is this member's before another may have it; renewed while its handler runs (default 30s)",
        },
        |settings, text| duration(text).map(|lease| settings.lease = Some(lease)),
    ),
];

const GROUP: Setting =
    Setting { key: "group", help: "the group whose events are handled; it must be given" };

fn count(text: &str) -> Result<usize, &'static str> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or("a whole number from 1 on")
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).map_err(|_| "a duration, such as 500ms, 1s or 5m")
}

impl Settings {
    /// Takes what is a consumer's out of the options, and leaves the backend's.
    fn take(options: &mut Options, backend: &[Setting]) -> Result<Self> {
        let mut settings = Self::default();
        for (setting, read) in SETTINGS {
            // Where the backend has a setting of that name, it means the same to it.
            let is_backends = backend.iter().any(|known| known.key == setting.key);
            let said = match is_backends {
                true => options.text(setting.key).map(str::to_owned),
                false => options.take(setting.key),
            };
            let Some(text) = said else { continue };
            read(&mut settings, &text).map_err(|allowed| {
                let why = format!("`{text}` is not a value of `{}`", setting.key);
                let error = Error::new(ErrorKind::Config, "open consumer", why);
                error.hint(format!("allowed: {allowed}"))
            })?;
        }
        Ok(settings)
    }
}

impl Consumer {
    /// Opens a consumer on the backend that a URL, a map, a table or
    /// [`Options`](crate::options::Options) name. Beside the backend's settings it takes
    ///
    /// - `group`: the group whose events it handles; it must be given;
    /// - `max_workers`: how many events are handled at once at most (default 128);
    /// - `batch_size`: how many are fetched at once at most (default, and never more: as many as
    ///   there are free workers);
    /// - `poll_interval`: how often is fetched at most; behind a full batch the next is fetched at
    ///   once. By default, 0 s, a fetch waits for the next event, on every backend: it is woken
    ///   where the backend can do that, else it looks as often as the backend says. A longer
    ///   interval makes fewer and fuller fetches, and events wait for it;
    /// - `lease`: how long an event is this member's before another may have it (default 30 s);
    ///   renewed while its handler runs.
    ///
    /// # Errors
    /// As [`Bus::open`]; also a config error for a setting of the above that is wrong or missing,
    /// an unsupported one for a backend without groups.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Consumer, json};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let map = json!({ "backend": "memory", "group": "workers", "poll_interval": "1s" });
    /// let consumer = Consumer::open(map).await?;
    /// assert_eq!(consumer.group(), "workers");
    ///
    /// let refused = Consumer::open("memory:?batch_size=10").await.unwrap_err();
    /// assert_eq!(refused.to_string(), "open consumer: a consumer has a group, and none is named");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn open(options: impl IntoOptions) -> Result<Self> {
        let options = options.into_options()?;
        let backend = backends::find(&options)?.settings;
        Self::open_by(options, backend, Bus::open).await
    }

    /// Opens a consumer on what `open` makes of the settings that are not the consumer's own.
    pub(crate) async fn open_by<B: Future<Output = Result<Bus>>>(
        mut options: Options,
        backend: &[Setting],
        open: impl FnOnce(Options) -> B,
    ) -> Result<Self> {
        let own = SETTINGS.iter().map(|(setting, _)| setting).chain([&GROUP]);
        let known: Vec<_> = own.chain(backend).copied().collect();
        options.check(&known)?;
        let settings = Settings::take(&mut options, backend)?;
        // All that is posted to one place is one group's, whatever it is called.
        let only = (options.backend() == "webhook").then(|| "webhook".to_owned());
        let group = options.take(GROUP.key).or(only).ok_or_else(|| {
            let why = "a consumer has a group, and none is named";
            Error::new(ErrorKind::Config, "open consumer", why)
                .hint("add group=NAME; what needs no group is a subscription of a bus")
        })?;
        Self::of(open(options).await?, &group, settings)
    }

    /// Opens a consumer over a backend of the caller's.
    ///
    /// # Errors
    /// Returns an unsupported error if it has no groups.
    pub fn over(backend: Arc<dyn Backend>, group: &str) -> Result<Self> {
        Self::of(Bus::over(backend), group, Settings::default())
    }

    /// Sets how many events are handled at once at most, by handlers added from here on.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Consumer, backends::memory::Memory};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let consumer = Consumer::over(Arc::new(Memory::default()), "workers")?
    ///     .max_workers(5)
    ///     .batch_size(10)
    ///     .poll_interval(Duration::from_secs(1))
    ///     .lease(Duration::from_secs(60));
    /// assert_eq!(consumer.group(), "workers");
    /// # Ok::<(), railbus::Error>(())
    /// ```
    #[must_use]
    pub fn max_workers(mut self, most: usize) -> Self {
        self.terms.workers = Some(most);
        self
    }

    /// Sets how many events are fetched at once at most; none counts as one.
    #[must_use]
    pub fn batch_size(mut self, most: usize) -> Self {
        self.terms.pull.batch = Some(most.max(1));
        self
    }

    /// Sets how often is fetched at most; behind a full batch the next is fetched at once.
    #[must_use]
    pub fn poll_interval(mut self, every: Duration) -> Self {
        self.terms.pull.every = every;
        self
    }

    /// Sets how long an event is this member's before another may have it.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.terms.lease = Some(lease);
        self
    }

    fn of(bus: Bus, group: &str, terms: Settings) -> Result<Self> {
        if !bus.capability().groups {
            let able = able(|capability| capability.groups);
            return Err(bus.capability().refuse("open consumer", "has no groups", &able));
        }
        Ok(Self { bus, group: group.into(), terms, gate: Arc::new(Gate::closed()) })
    }

    /// Starts a subscription of the group, as [`Bus::on`] does; its events come from
    /// [`Consumer::start`] on.
    ///
    /// What else is said of it is said as on a bus: `.retry(..)`, `.manual()`, `.named(..)`. A
    /// `.limit(..)` or `.lease(..)` there takes the place of the consumer's.
    pub fn on(&self, predicate: impl Into<Predicate>) -> On {
        let Settings { workers, lease, pull } = self.terms;
        let mut on = self.bus.on(predicate).group(&*self.group);
        if let Some(workers) = workers {
            on = on.limit(workers);
        }
        if let Some(lease) = lease {
            on = on.lease(lease);
        }
        if !self.bus.capability().dead_letters {
            // Whoever sent it is told, and has it still.
            on = on.then(Then::Drop);
        }
        on.pulled(pull, Arc::clone(&self.gate))
    }

    /// Begins to fetch. Handlers that are added later are called from then on. Again is fine.
    ///
    /// # Errors
    /// Returns a config error if there is no handler, a closed one after [`Consumer::stop`], else
    /// what the backend says.
    ///
    /// # Cancel safety
    /// If it is dropped, it has begun or not; call it again.
    pub async fn start(&self) -> Result<()> {
        self.bus.check_open("start")?;
        if self.gate.is_empty(&self.bus).await {
            let why = "a consumer without a handler has nothing to fetch for";
            return Err(Error::new(ErrorKind::Config, "start", why)
                .hint("add one first: consumer.on(..).run(..).await"));
        }
        self.gate.open(&self.bus).await
    }

    /// Starts it, waits for SIGINT or SIGTERM, and stops it; a second signal does not wait for
    /// handlers any more. Ends as well, with what is wrong, if the consumer can't go on.
    ///
    /// # Examples
    /// ```no_run
    /// use railbus::{Consumer, Event};
    ///
    /// #[railbus::main]
    /// async fn main() -> railbus::Result<()> {
    ///     let consumer = Consumer::open("sqlite:jobs.db?group=workers&max_workers=5").await?;
    ///     consumer.on("job.*").run(async |job: Event| println!("{}", job.id())).await?;
    ///     consumer.until_signal().await
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Consumer::start`] and [`Consumer::stop`]; what ended the group if that did.
    pub async fn until_signal(&self) -> Result<()> {
        let mut signals = Signals::listen()?;
        self.start().await?;
        let ended = tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, group = &*self.group, "stopping");
                None
            }
            error = self.bus.failed() => Some(error),
        };
        tokio::select! {
            stopped = self.stop() => stopped?,
            signal = signals.next() => {
                tracing::warn!(signal, group = &*self.group, "stopping without waiting");
                self.stop_within(Duration::ZERO).await?;
            }
        }
        ended.map_or(Ok(()), Err)
    }

    /// Stops it: nothing is fetched any more, handlers in flight finish, for at most 30 seconds, and
    /// the rest is given back. Again is fine.
    ///
    /// # Errors
    /// As [`Bus::close_within`].
    ///
    /// # Cancel safety
    /// If it is dropped, nothing is fetched any more all the same; call it again to finish.
    pub async fn stop(&self) -> Result<()> {
        self.stop_within(STOP_WITHIN).await
    }

    /// Stops it as [`Consumer::stop`] does, by another deadline.
    ///
    /// # Errors
    /// As [`Bus::close_within`].
    pub async fn stop_within(&self, deadline: Duration) -> Result<()> {
        self.bus.close_within(deadline).await
    }

    /// Returns the name of its group.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Returns the bus it is on: for its counters, its dead letters, and what handlers take as
    /// [`State`](crate::State).
    ///
    /// # Examples
    /// ```
    /// use railbus::{Consumer, Event, State};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let consumer = Consumer::open("memory:?group=workers").await?;
    /// consumer.bus().clone().state(String::from("north"));
    /// let tell = async |tenant: State<String>| println!("{}", *tenant);
    /// consumer.on("tick").run(tell).await?;
    /// consumer.start().await?;
    /// assert_eq!(consumer.bus().counters().delivered.get(), 0);
    /// consumer.stop_within(Duration::from_secs(5)).await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({}, {:?})", self.group, self.bus)
    }
}
