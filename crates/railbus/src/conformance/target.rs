//! What the suite runs on: how to reach the store, and what else its owner can do.

use crate::{
    backend::Backend,
    backends::{self, Opening, memory::Memory},
    error::Result,
    options::Options,
};
use bytes::Bytes;
use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    process::Command,
    sync::Arc,
};

/// A store to run the suite on.
///
/// The suite opens many connections to it at once, uses topics and groups with names of their
/// own, and forgets its groups afterwards: what others keep in the store stays as it is. Its
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
/// .inject(|topic, bytes| Box::pin(async move {
///     println!("{} bytes that are no event go to {topic}", bytes.len());
///     Ok(())
/// }));
/// let suite = Suite::new(target);
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone)]
pub struct Target {
    open: Arc<dyn Fn() -> Opening + Send + Sync>,
    member: Option<Arc<dyn Fn() -> Command + Send + Sync>>,
    inject: Option<Arc<Inject>>,
}

type Inject = dyn Fn(String, Bytes) -> Injecting + Send + Sync;
type Injecting = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Target {
    /// Describes a store by what opens a fresh connection to it.
    ///
    /// Where nothing is shared between connections, each is a store of its own.
    pub fn new(open: impl Fn() -> Opening + Send + Sync + 'static) -> Self {
        Self { open: Arc::new(open), member: None, inject: None }
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
        let target = Self::new(move || Box::pin(backends::open(again.clone())));
        #[cfg(feature = "sqlite")]
        if options.backend() == "sqlite" {
            let path = Arc::<str>::from(options.address());
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(super::poison::write_row(Arc::clone(&path), topic, bytes))
            }));
        }
        #[cfg(feature = "postgres")]
        if options.backend() == "postgres-queue" {
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(backends::postgres_queue::inject(options.clone(), topic, bytes))
            }));
        }
        #[cfg(feature = "redis")]
        if options.backend() == "redis-streams" {
            return Ok(target.inject(move |topic, bytes| {
                Box::pin(backends::redis_streams::write_entry(options.clone(), topic, bytes))
            }));
        }
        drop(options);
        Ok(target)
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

    pub(super) fn open(&self) -> Opening {
        (self.open)()
    }

    pub(super) fn command(&self) -> Option<Command> {
        self.member.as_ref().map(|command| command())
    }

    pub(super) fn injection(&self, topic: &str, bytes: &Bytes) -> Option<Injecting> {
        self.inject.as_ref().map(|inject| inject(topic.into(), bytes.clone()))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("member", &self.member.is_some())
            .field("inject", &self.inject.is_some())
            .finish_non_exhaustive()
    }
}
