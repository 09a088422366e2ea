//! The backends: one row of [`TABLE`] each.

pub mod checkup;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqs"))]
#[cfg_attr(not(feature = "redis"), allow(dead_code))]
mod gather;
pub mod memory;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod parts;
#[cfg(any(feature = "nats", feature = "postgres", feature = "sqlite"))]
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]
mod record;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "postgres")]
pub mod postgres_queue;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod redis_streams;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "sqs")]
pub mod sqs;
#[cfg(feature = "webhook")]
pub mod webhook;

use self::checkup::Checkup;
use crate::{
    backend::{Backend, Capability},
    error::{Error, ErrorKind, Result, nearest},
    options::{Options, Setting},
};
use std::{
    future::Future,
    pin::Pin,
    ptr,
    sync::{Arc, PoisonError, RwLock},
};

/// What opening a backend gives.
///
/// # Examples
/// ```
/// use railbus::{backends::{Opening, memory}, options::Options};
///
/// /// What a row's `open` is.
/// fn open(options: Options) -> Opening {
///     Box::pin(memory::open(options))
/// }
/// ```
pub type Opening = Pin<Box<dyn Future<Output = Result<Arc<dyn Backend>>> + Send>>;

/// A backend as `open`, `backends`, `doctor` and the conformance suite see it.
///
/// # Examples
/// ```
/// use railbus::{backends::{Row, TABLE, checkup::Checkup, memory}, options::Options};
///
/// let row: &Row = TABLE.iter().find(|row| row.scheme == "memory").unwrap();
/// assert_eq!((row.example, row.capability.name), ("memory:", memory::CAPABILITY.name));
/// assert!(row.settings.iter().any(|setting| setting.key == memory::SETTINGS[0].key));
///
/// let options = Options::parse("memory:?wire=sometimes")?;
/// assert!((row.check)(&options).is_err());
/// let found: Checkup = (row.look)(&Options::parse("memory:")?);
/// assert!(!found.begins);
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Debug)]
pub struct Row {
    /// Its name: the URL's scheme.
    pub scheme: &'static str,
    /// What an address looks like.
    pub example: &'static str,
    /// What it guarantees.
    pub capability: &'static Capability,
    /// What can be set.
    pub settings: &'static [Setting],
    /// Checks settings without opening anything.
    pub check: fn(&Options) -> Result<()>,
    /// Looks at its place without opening it: nothing is created or changed. May block.
    pub look: fn(&Options) -> Checkup,
    /// Opens it.
    pub open: fn(Options) -> Opening,
}

/// All backends of this build.
pub const TABLE: &[Row] = &[
    Row {
        scheme: "memory",
        example: "memory:",
        capability: &memory::CAPABILITY,
        settings: memory::SETTINGS,
        check: memory::check,
        look: |_| Checkup::default(),
        open: |options| Box::pin(memory::open(options)),
    },
    #[cfg(feature = "postgres")]
    Row {
        scheme: "postgres",
        example: "postgres://USER@HOST/DATABASE",
        capability: &postgres::CAPABILITY,
        settings: postgres::SETTINGS,
        check: postgres::check,
        look: postgres::look,
        open: |options| Box::pin(postgres::open(options)),
    },
    #[cfg(feature = "sqlite")]
    Row {
        scheme: "sqlite",
        example: "sqlite:PATH",
        capability: &sqlite::CAPABILITY,
        settings: sqlite::SETTINGS,
        check: sqlite::check,
        look: sqlite::look,
        open: |options| Box::pin(sqlite::open(options)),
    },
    #[cfg(feature = "postgres")]
    Row {
        scheme: "postgres-queue",
        example: "postgres-queue://USER@HOST/DATABASE",
        capability: &postgres_queue::CAPABILITY,
        settings: postgres_queue::SETTINGS,
        check: postgres_queue::check,
        look: postgres_queue::look,
        open: |options| Box::pin(postgres_queue::open(options)),
    },
    #[cfg(feature = "nats")]
    Row {
        scheme: "nats",
        example: "nats://HOST",
        capability: &nats::CAPABILITY,
        settings: nats::SETTINGS,
        check: nats::check,
        look: nats::look,
        open: |options| Box::pin(nats::open(options)),
    },
    #[cfg(feature = "redis")]
    Row {
        scheme: "redis",
        example: "redis://HOST",
        capability: &redis::CAPABILITY,
        settings: redis::SETTINGS,
        check: redis::check,
        look: redis::look,
        open: |options| Box::pin(redis::open(options)),
    },
    #[cfg(feature = "redis")]
    Row {
        scheme: "redis-streams",
        example: "redis-streams://HOST",
        capability: &redis_streams::CAPABILITY,
        settings: redis_streams::SETTINGS,
        check: redis_streams::check,
        look: redis_streams::look,
        open: |options| Box::pin(redis_streams::open(options)),
    },
    #[cfg(feature = "sqs")]
    Row {
        scheme: "sqs",
        example: "sqs://REGION/ACCOUNT/QUEUE",
        capability: &sqs::CAPABILITY,
        settings: sqs::SETTINGS,
        check: sqs::check,
        look: sqs::look,
        open: |options| Box::pin(sqs::open(options)),
    },
];

/// What a URL names like a backend, and what only brings events in: nobody publishes to it, and it keeps
/// nothing, so that it stands in no table of backends.
const DOORS: &[Row] = &[
    #[cfg(feature = "webhook")]
    Row {
        scheme: "webhook",
        example: "webhook://127.0.0.1:8080/hooks",
        capability: &webhook::CAPABILITY,
        settings: webhook::SETTINGS,
        check: webhook::check,
        look: webhook::look,
        open: |options| Box::pin(webhook::open(options)),
    },
];

/// The backends that Railbus names and that are not in every build.
const NAMED: &[&str] =
    &["nats", "postgres", "postgres-queue", "redis", "redis-streams", "sqlite", "sqs", "webhook"];

/// Those that keep what the members of a fleet have in common.
pub(crate) const COMMONS: &[&str] = &["memory", "sqlite", "postgres-queue", "redis-streams"];

/// The rows that were registered, in the order they came.
static ROWS: RwLock<Vec<&'static Row>> = RwLock::new(Vec::new());

/// Adds a backend of the program's own to those that URLs can name, in this process; adding the same
/// row again does nothing.
///
/// # Examples
/// ```
/// use railbus::{
///     Bus, Options,
///     backend::{Backend, Capability},
///     backends::{self, Opening, Row, checkup::Checkup, memory::Memory},
/// };
/// use std::sync::Arc;
///
/// // A crate of one's own has a backend in the place of this one.
/// static ROW: Row = Row {
///     scheme: "mine",
///     example: "mine:PLACE",
///     capability: &backends::memory::CAPABILITY,
///     settings: &[],
///     check: |_| Ok(()),
///     look: |_| Checkup::default(),
///     open: |_| Box::pin(async { Ok(Arc::new(Memory::default()) as Arc<dyn Backend>) }),
/// };
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// backends::register(&ROW)?;
/// let bus = Bus::open("mine:here").await?;
/// assert!(bus.ping().await.is_ok() && backends::all().any(|row| row.scheme == "mine"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// Returns a config error if its scheme is another backend's, or is none: lower-case letters, digits
/// and `-`, a letter first.
pub fn register(row: &'static Row) -> Result<()> {
    let config = |why: String| Error::new(ErrorKind::Config, "register", why);
    let scheme = row.scheme;
    let first = scheme.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(first && scheme.bytes().all(plain)) {
        return Err(config(format!("`{scheme}` is not a scheme"))
            .hint("write lower-case letters, digits and -, such as directory"));
    }
    let mut rows = ROWS.write().unwrap_or_else(PoisonError::into_inner);
    if rows.iter().any(|known| ptr::eq(*known, row)) {
        return Ok(());
    }
    let taken = TABLE.iter().chain(rows.iter().copied()).any(|known| known.scheme == scheme);
    if taken || NAMED.contains(&scheme) {
        return Err(config(format!("there is a backend `{scheme}` already"))
            .hint("give it a scheme of its own"));
    }
    rows.push(row);
    Ok(())
}

/// Returns the backends of this build, and then those that were registered.
///
/// # Examples
/// ```
/// use railbus::backends;
///
/// assert!(backends::all().any(|row| row.scheme == "memory"));
/// ```
pub fn all() -> impl Iterator<Item = &'static Row> + Clone {
    let registered = ROWS.read().unwrap_or_else(PoisonError::into_inner).clone();
    TABLE.iter().chain(registered)
}

/// Returns the backend that `options` name.
///
/// # Examples
/// ```
/// use railbus::{backends::find, options::Options};
///
/// assert_eq!(find(&Options::parse("memory:")?)?.scheme, "memory");
/// let error = find(&Options::parse("memroy:")?).unwrap_err();
/// assert!(error.advice().unwrap().starts_with("did you mean `memory`?"));
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Returns a config error that lists the backends of this build if there is none of that name, an
/// unsupported one if there is, but not in this build.
pub fn find(options: &Options) -> Result<&'static Row> {
    let name = options.backend();
    all().chain(DOORS).find(|row| row.scheme == name).ok_or_else(|| absent(name))
}

fn absent(name: &str) -> Error {
    let mut built: Vec<_> = all().map(|row| row.scheme).collect();
    built.sort_unstable();
    let known = built.join(", ");
    if NAMED.contains(&name) {
        let why = format!("the backend `{name}` is not in this build");
        let hint = match name {
            "nats" => "build railbus with the feature `nats`",
            "sqlite" => "build railbus with the feature `sqlite`",
            "webhook" => "build railbus with the feature `webhook`",
            "redis" | "redis-streams" => "build railbus with the feature `redis`",
            "postgres" | "postgres-queue" => "build railbus with the feature `postgres`",
            "sqs" => "build railbus with the feature `sqs`",
            _ => "this version does not have it yet",
        };
        let hint = format!("{hint}; this build has: {known}");
        return Error::new(ErrorKind::Unsupported, "open", why).hint(hint);
    }
    let all = built.iter().chain(NAMED).copied();
    let hint = match nearest(name, all) {
        Some(near) if built.contains(&near) => {
            format!("did you mean `{near}`? This build has: {known}")
        }
        Some(near) => format!("did you mean `{near}`? It is not in this build, which has: {known}"),
        None => format!("this build has: {known}"),
    };
    Error::new(ErrorKind::Config, "open", format!("there is no backend `{name}`")).hint(hint)
}

/// Opens the backend that `options` name.
///
/// # Examples
/// ```
/// use railbus::{Bus, backends::{self, memory::{Memory, Wire}}, options::Options};
/// use std::sync::Arc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let backend = backends::open(Options::parse("memory:?wire=always")?).await?;
/// assert!(backend.encodes());
/// let own = Memory::default();
/// assert_eq!(own.wire(), Wire::Lazy);
/// assert!(Bus::over(Arc::new(own)).ping().await.is_ok());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
///
/// # Errors
/// As [`find`], else what the backend says.
pub async fn open(options: Options) -> Result<Arc<dyn Backend>> {
    (find(&options)?.open)(options).await
}

#[cfg(test)]
mod tests {
    use super::{Checkup, Row, absent, all, memory, register};
    use crate::error::ErrorKind;

    #[test]
    fn a_backend_that_was_left_out_is_told_with_its_feature() {
        let error = absent("sqlite");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let advice = error.advice().unwrap_or_default();
        assert!(advice.starts_with("build railbus with the feature `sqlite`"), "{advice}");
    }

    static TAKEN: Row = Row { scheme: "redis", ..template() };
    static ODD: Row = Row { scheme: "No Scheme", ..template() };
    static OWN: Row = Row { scheme: "own-1", ..template() };
    static OTHER: Row = Row { scheme: "own-1", ..template() };

    const fn template() -> Row {
        Row {
            scheme: "",
            example: "",
            capability: &memory::CAPABILITY,
            settings: &[],
            check: |_| Ok(()),
            look: |_| Checkup::default(),
            open: |options| Box::pin(memory::open(options)),
        }
    }

    #[test]
    fn a_scheme_is_one_backend_s_alone() {
        for (row, why) in [(&TAKEN, "is a backend `redis` already"), (&ODD, "is not a scheme")] {
            let error = register(row).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
        for _ in 0..2 {
            register(&OWN).unwrap();
        }
        assert!(register(&OTHER).is_err());
        assert_eq!(all().filter(|row| row.scheme == "own-1").count(), 1);
    }
}
