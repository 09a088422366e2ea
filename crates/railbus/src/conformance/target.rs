//! What the suite runs on: how to reach the store, and what else its owner can do.

use super::control::{self, Control};
use crate::{
    backend::Backend,
    backends::{self, Opening, memory::Memory},
    clock::Timestamp,
    error::Result,
    options::Options,
};
use bytes::Bytes;
use std::{
    fmt,
    future::{Future, ready},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::Command,
    sync::Arc,
};

/// A store to run the suite on.
///
/// The suite opens many connections to it at once, uses topics and groups with names of their
/// own, and forgets its groups and runs afterwards: what others keep in the store stays as it is. Its
/// events stay until the store's retention lets them go.
///
/// # Examples
/// ```
/// use railbus::{backends::memory::Memory, backend::Backend, conformance::{Suite, Target}};
/// use std::sync::Arc;
///
/// let memory = Memory::default();
/// let target = Target::new(move || {
///     let backend: Arc<dyn Backend> = Arc::new(memory.connect());
///     Box::pin(async move { Ok(backend) })
/// })
/// .has_our_clock()
/// .inject(|topic, bytes| Box::pin(async move {
///     println!("{} bytes that are no event go to {topic}", bytes.len());
///     Ok(())
/// }));
/// let suite = Suite::new(target);
///
/// // A store on a server of one's own: how to reach it by another way, and who is not let in.
/// # use railbus::{Error, ErrorKind, clock::Timestamp};
/// # let open = |_: &str| -> railbus::backends::Opening { Box::pin(async { Ok(Arc::new(Memory::default()) as Arc<dyn Backend>) }) };
/// let target = Target::new(move || open("the server"))
///     .server("localhost:7000", move |address| open(&format!("{address}")))
///     .stranger(|| Box::pin(async { Err(Error::new(ErrorKind::Denied, "open", "no entry")) }))
///     .control_by("./control.sh")
///     // What its clock says, if that may be another time than here.
///     .clock(|| Box::pin(async { Ok(Timestamp::now()) }))
///     // A layer of one's own is tested as what is below it.
///     .around(|connection| connection);
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone)]
pub struct Target {
    open: Arc<dyn Fn() -> Opening + Send + Sync>,
    member: Option<Arc<dyn Fn() -> Command + Send + Sync>>,
    has_our_clock: bool,
    inject: Option<Arc<Inject>>,
    server: Option<Server>,
    stranger: Option<Arc<dyn Fn() -> Opening + Send + Sync>>,
    control: Option<Arc<dyn Fn(Control) -> Doing + Send + Sync>>,
    clock: Option<Arc<dyn Fn() -> Asking + Send + Sync>>,
}

/// Where a store's server is, and how to reach it by way of another address.
#[derive(Clone)]
struct Server {
    upstream: Arc<str>,
    open: Arc<dyn Fn(SocketAddr) -> Opening + Send + Sync>,
}

type Inject = dyn Fn(String, Bytes) -> Doing + Send + Sync;
type Wrap = dyn Fn(Arc<dyn Backend>) -> Arc<dyn Backend> + Send + Sync;
type Doing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;
type Asking = Pin<Box<dyn Future<Output = Result<Timestamp>> + Send>>;

/// The ports that servers are on unless it is said.
const PORTS: [(&str, &str); 3] = [("nats", "4222"), ("postgres", "5432"), ("redis", "6379")];

/// Which backends are of this crate, and ask its clock or their server's.
const OURS: [&str; 7] =
    ["sqlite", "nats", "redis", "redis-streams", "postgres", "postgres-queue", "sqs"];

/// A password that nobody has.
const WRONG: &str = "not the password, says the conformance suite";

impl Target {
    /// Describes a store by what opens a fresh connection to it.
    ///
    /// Where nothing is shared between connections, each is a store of its own.
    pub fn new(open: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        Self {
            open: Arc::new(open),
            member: None,
            has_our_clock: false,
            inject: None,
            server: None,
            stranger: None,
            control: None,
            clock: None,
        }
    }

    /// Describes the store that a URL names, with what this crate knows of it.
    ///
    /// # Errors
    /// Returns a config error for a URL, backend or setting that is unknown.
    pub fn url(url: &str) -> Result<Self> {
        let options = Options::parse(url)?;
        if options.backend() == "memory" {
            let memory = Memory::of(&options)?;
            return Ok(Self::new(move || {
                let connection: Arc<dyn Backend> = Arc::new(memory.connect());
                Box::pin(ready(Ok(connection)))
            }));
        }
        let again = options.clone();
        let mut target = Self::new(move || Box::pin(backends::open(again.clone())));
        target.has_our_clock = OURS.contains(&options.backend());
        #[cfg(feature = "sqlite")]
        if options.backend() == "sqlite" {
            let path = Arc::<str>::from(options.address());
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(super::poison::write_row(Arc::clone(&path), topic, bytes))
            }));
        }
        #[cfg(feature = "postgres")]
        if options.backend() == "postgres-queue" {
            let (again, asked) = (options.clone(), options.clone());
            let target = target.on_its_server(&options);
            let target = target
                .clock(move || Box::pin(backends::postgres_queue::server_time(asked.clone())));
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(backends::postgres_queue::inject(again.clone(), topic, bytes))
            }));
        }
        #[cfg(feature = "redis")]
        if options.backend() == "redis-streams" {
            let (again, asked) = (options.clone(), options.clone());
            let target = target.on_its_server(&options);
            let target =
                target.clock(move || Box::pin(backends::redis_streams::server_time(asked.clone())));
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(backends::redis_streams::write_entry(again.clone(), topic, bytes))
            }));
        }
        #[cfg(feature = "sqs")]
        if options.backend() == "sqs"
            && let Some(upstream) = backends::sqs::upstream(&options)
        {
            return Ok(target.server(upstream, move |address| {
                let mut options = options.clone();
                options.set("endpoint_url", format!("http://{address}"));
                Box::pin(backends::open(options))
            }));
        }
        #[cfg(feature = "nats")]
        if options.backend() == "nats" {
            let (again, asked) = (options.clone(), options.clone());
            let target = target.on_its_server(&options);
            let target = target.clock(move || Box::pin(backends::nats::server_time(asked.clone())));
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(backends::nats::write_message(again.clone(), topic, bytes))
            }));
        }
        Ok(target.on_its_server(&options))
    }

    /// Says what follows from a URL's host, if it has one: the way around, and the wrong way in.
    fn on_its_server(self, options: &Options) -> Self {
        let name = options.backend();
        let Some((_, port)) = PORTS.iter().find(|(server, _)| name.starts_with(server)) else {
            return self;
        };
        let host = options.text("host").unwrap_or("localhost").to_owned();
        // Several hosts, or a socket in a folder.
        if host.contains([',', '/']) {
            return self;
        }
        let port = options.text("port").unwrap_or(port);
        let upstream =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let (around, mut stranger) = (options.clone(), options.clone());
        stranger.set("password", WRONG);
        self.server(upstream, move |address| {
            let mut options = around.clone();
            // A certificate names the host, so that it stays where it leads to the same place.
            if host != "localhost" {
                options.set("host", address.ip().to_string());
            }
            options.set("port", address.port().to_string());
            Box::pin(backends::open(options))
        })
        .stranger(move || Box::pin(backends::open(stranger.clone())))
    }

    /// Says how to start a member of a group as a process of its own, which the suite kills: the
    /// program opens this store and calls [`Member::run`](super::Member::run).
    ///
    /// The suite sets the variable that [`Member::from_env`](super::Member::from_env) reads, and
    /// takes over the command's standard input and output.
    #[must_use]
    pub fn member(mut self, command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        self.member = Some(Arc::new(command));
        self
    }

    /// Says that the backend reads the time of its leases and delays by
    /// [`Timestamp::now`](crate::clock::Timestamp::now), or from its server: so the suite can set the
    /// clock of a member wrong, which must not matter. Railbus's own backends do.
    #[must_use]
    pub fn has_our_clock(mut self) -> Self {
        self.has_our_clock = true;
        self
    }

    /// Says how to ask what time it is by the clock by which the store starts groups at a time. Without
    /// it that must be this machine's, within a tenth of a second, or "late subscriber" fails: a store
    /// that is wrong by a constant time would look no different. A URL of `postgres-queue` or
    /// `redis-streams` asks the server.
    #[must_use]
    pub fn clock(
        mut self,
        clock: impl Fn() -> Pin<Box<dyn Future<Output = Result<Timestamp>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Says how to store bytes that are no event on a topic, past all checks.
    #[must_use]
    pub fn inject(
        mut self,
        inject: impl Fn(String, Bytes) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.inject = Some(Arc::new(inject));
        self
    }

    /// Says where the store's server is (`host:port`), and how to open a connection by way of
    /// another address, such as that of the suite's own proxy, which cuts it off. A URL that names
    /// a server says both.
    #[must_use]
    pub fn server(
        mut self,
        upstream: impl Into<String>,
        open: impl Fn(SocketAddr) -> Opening + Send + Sync + 'static,
    ) -> Self {
        self.server = Some(Server { upstream: upstream.into().into(), open: Arc::new(open) });
        self
    }

    /// Says how to try to open a connection with a password that is wrong. A URL that names a server
    /// says so.
    #[must_use]
    pub fn stranger(mut self, open: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        self.stranger = Some(Arc::new(open));
        self
    }

    /// Says how to stop, kill, pause and start the store's server. What it is told is done, and the
    /// server that was started or resumed answers, when the future is through.
    #[must_use]
    pub fn control(
        mut self,
        control: impl Fn(Control) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        self.control = Some(Arc::new(control));
        self
    }

    /// As [`Target::control`], by a program that is called with one argument, [`Control::name`], and
    /// exits with 0 when it is done. Where no file has that name, it may be a command with arguments of
    /// its own, as the shell reads it: the word comes last.
    #[must_use]
    pub fn control_by(self, program: impl AsRef<Path>) -> Self {
        let program = Arc::<Path>::from(program.as_ref());
        self.control(move |order| Box::pin(control::call(Arc::clone(&program), order)))
    }

    /// Puts something around each connection to the store, whichever way it is opened: a layer of
    /// one's own, which is a backend like all others, or one that breaks something on purpose. Members
    /// in processes of their own are without it.
    #[must_use]
    pub fn around(
        mut self,
        wrap: impl Fn(Arc<dyn Backend>) -> Arc<dyn Backend> + Send + Sync + 'static,
    ) -> Self {
        let wrap: Arc<Wrap> = Arc::new(wrap);
        let (open, of_open) = (self.open, Arc::clone(&wrap));
        self.open = Arc::new(move || wrapped(open(), &of_open));
        self.server = self.server.map(|Server { upstream, open }| {
            let wrap = Arc::clone(&wrap);
            Server { upstream, open: Arc::new(move |address| wrapped(open(address), &wrap)) }
        });
        self.stranger = self.stranger.map(|open| {
            let open = move || wrapped(open(), &wrap);
            Arc::new(open) as Arc<dyn Fn() -> Opening + Send + Sync>
        });
        self
    }

    pub(super) fn open(&self) -> Opening {
        (self.open)()
    }

    pub(super) fn clocks_can_be_set(&self) -> bool {
        self.has_our_clock
    }

    pub(super) fn command(&self) -> Option<Command> {
        self.member.as_ref().map(|command| command())
    }

    pub(super) fn injection(&self, topic: &str, bytes: &Bytes) -> Option<Doing> {
        self.inject.as_ref().map(|inject| inject(topic.into(), bytes.clone()))
    }

    pub(super) fn asked(&self) -> Option<Asking> {
        self.clock.as_ref().map(|clock| clock())
    }

    pub(super) fn upstream(&self) -> Option<&str> {
        self.server.as_ref().map(|server| &*server.upstream)
    }

    pub(super) fn open_by(&self, address: SocketAddr) -> Option<Opening> {
        self.server.as_ref().map(|server| (server.open)(address))
    }

    pub(super) fn open_as_stranger(&self) -> Option<Opening> {
        self.stranger.as_ref().map(|open| open())
    }

    pub(super) fn is_controlled(&self) -> bool {
        self.control.is_some()
    }

    pub(super) fn order(&self, order: Control) -> Option<Doing> {
        self.control.as_ref().map(|control| control(order))
    }
}

/// Opens a connection, and puts something around it.
fn wrapped(opening: Opening, wrap: &Arc<Wrap>) -> Opening {
    let wrap = Arc::clone(wrap);
    Box::pin(async move { Ok(wrap(opening.await?)) })
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("member", &self.member.is_some())
            .field("inject", &self.inject.is_some())
            .field("server", &self.upstream())
            .field("control", &self.control.is_some())
            .finish_non_exhaustive()
    }
}
