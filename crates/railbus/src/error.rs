//! The one error of Railbus: what went wrong, where, and what to do about it.

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Any error a handler, a step or a source may return.
///
/// # Examples
/// ```
/// use railbus::BoxError;
///
/// fn read(text: &str) -> Result<u32, BoxError> {
///     match text.parse()? {
///         0 => Err("nothing".into()),
///         n => Ok(n),
///     }
/// }
/// assert_eq!(read("0").unwrap_err().to_string(), "nothing");
/// ```
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of every Railbus call that can fail.
///
/// # Examples
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// async fn open() -> railbus::Result<railbus::Bus> {
///     railbus::Bus::open("memory:").await
/// }
/// assert!(open().await.is_ok());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong; new kinds may be added.
///
/// # Examples
/// ```
/// use railbus::{Bus, Error, ErrorKind};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let error: Error = Bus::open("memroy:").await.unwrap_err();
/// assert_eq!((error.kind(), error.kind().name()), (ErrorKind::Config, "config"));
/// assert!(error.advice().unwrap().starts_with("did you mean `memory`?"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting is unknown, missing or malformed.
    Config,
    /// The backend cannot give the guarantee asked for.
    Unsupported,
    /// A file, group, event or dead letter does not exist.
    NotFound,
    /// An event is malformed: its type, topic or another field breaks a limit.
    InvalidEvent,
    /// A payload could not be turned into bytes.
    Encode,
    /// Bytes could not be turned into an event or a payload.
    Decode,
    /// A payload or a batch is larger than the backend takes.
    TooLarge,
    /// There is no room and waiting for it could deadlock.
    Overloaded,
    /// The bus, producer or source was closed.
    Closed,
    /// A lease was lost: the event belongs to another member now.
    Stale,
    /// The store or server can't be reached at the moment.
    Unavailable,
    /// Credentials or permissions do not allow it.
    Denied,
    /// The disk or the quota is full.
    Full,
    /// The stored data is damaged, or belongs to another program.
    Corrupt,
    /// The stored data was written by a newer Railbus.
    Version,
    /// An input file changed below the position already read.
    Changed,
    /// A handler failed.
    Handler,
    /// It took longer than allowed.
    Timeout,
    /// A defect of Railbus itself.
    Internal,
}

impl ErrorKind {
    /// Returns the kind's name in lower case, as logs and JSON show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not_found",
            Self::InvalidEvent => "invalid_event",
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
            Self::Stale => "stale",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
            Self::Version => "version",
            Self::Changed => "changed",
            Self::Handler => "handler",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }
}

/// An error of Railbus.
///
/// `Display` says what failed, in which operation, with the values that matter, followed by the
/// chain of causes; [`Error::hint`] says what to do about it. Where the message has more lines, such
/// as one that shows a place in a text, they come last.
///
/// # Examples
/// ```
/// use railbus::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "connect", "nobody answers")
///     .with("host", "db-1")
///     .hint("start the server")
///     .because("refused");
/// assert_eq!(error.to_string(), "connect: nobody answers (host: db-1): refused");
/// assert_eq!((error.operation(), error.message()), ("connect", "nobody answers"));
/// assert_eq!((error.advice(), error.is_retryable()), (Some("start the server"), true));
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    // Shared, so that one failure of a batch can be told to every event in it.
    source: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind` that happened in `operation`.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            message: message.into(),
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    /// Adds a value that tells which thing failed: a path, a key, an id.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds what to do about it, as a sentence.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(std::sync::Arc::from(source.into()));
        self
    }

    /// Returns what kind of error this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the operation that failed, such as `publish`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns the message alone, without operation, values and causes.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the value that tells which thing failed, under this key.
    #[cfg(any(feature = "app", feature = "postgres", feature = "redis", feature = "sqs"))]
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str())
    }

    /// Returns what to do about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Tells whether the same call may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Full | ErrorKind::Timeout
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What else is said stands before what is drawn below the message.
        let (message, drawing) = match self.0.message.split_once('\n') {
            Some((message, drawing)) => (message, Some(drawing)),
            None => (&*self.0.message, None),
        };
        write!(f, "{}: {message}", self.0.operation)?;
        for (i, (key, value)) in self.0.context.iter().enumerate() {
            let open = if i == 0 { " (" } else { ", " };
            write!(f, "{open}{key}: {value}")?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        if let Some(source) = &self.0.source {
            let source: &(dyn StdError + 'static) = &**source;
            write!(f, ": {}", shown(|| source.to_string()))?;
        }
        match drawing {
            Some(drawing) => write!(f, "\n{drawing}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}) {self}", self.0.kind.name())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|e| &**e as &(dyn StdError + 'static))
    }
}

/// How many causes of an error are looked at: more than any has, but one may name itself.
const CAUSES_MAX: usize = 100;

/// Joins an error and its causes into one line, each cause once.
///
/// # Examples
/// ```
/// use railbus::{Error, ErrorKind, error::chain};
///
/// let error = Error::new(ErrorKind::Handler, "charge", "no card").because("it was refused");
/// assert_eq!(chain(&error), "charge: no card: it was refused");
/// ```
#[must_use]
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    shown(|| line(error))
}

/// Returns what errors say of themselves: they may be others', and may panic.
fn shown(say: impl FnOnce() -> String) -> String {
    catch_unwind(AssertUnwindSafe(say))
        .unwrap_or_else(|_| "an error that can't be shown: its Display panicked".into())
}

fn line(error: &(dyn StdError + 'static)) -> String {
    let mut line = error.to_string();
    for cause in causes(error).skip(1) {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

/// Goes through an error and its causes, the error first; ends although one may name itself.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source()).take(CAUSES_MAX)
}

/// Returns the known name nearest to `name`, if one is near enough to be a slip.
///
/// # Examples
/// ```
/// use railbus::error::nearest;
///
/// assert_eq!(nearest("retntion", ["retention", "max_size"]), Some("retention"));
/// assert_eq!(nearest("colour", ["retention", "max_size"]), None);
/// assert_eq!(nearest("B", ["a", "b"]), Some("b"));
/// assert_eq!(nearest("c", ["a", "b"]), None);
/// ```
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| {
            let longer = k.len().max(name.len());
            // Names of which every letter is another have nothing in common.
            *distance <= 1 + longer / 4 && *distance < longer || k.eq_ignore_ascii_case(name)
        })
        .min_by_key(|(distance, k)| (!k.eq_ignore_ascii_case(name), *distance))
        .map(|(_, k)| k)
}
