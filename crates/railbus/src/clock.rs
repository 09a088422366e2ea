//! Points in time, as events and stores carry them.

use crate::error::{Error, ErrorKind, Result};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point in time in UTC, in whole microseconds.
///
/// # Examples
/// ```
/// use railbus::clock::Timestamp;
/// use std::time::Duration;
///
/// let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
/// let end = start.after(Duration::from_millis(1500));
/// assert_eq!(end.to_string(), "2026-01-01T00:00:01.500000Z");
/// assert_eq!(end.since(start), Duration::from_millis(1500));
/// assert_eq!(Timestamp::from_micros(start.as_micros()), start);
/// assert!(Timestamp::now() > Timestamp::from_micros(0));
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Reads the system clock.
    #[must_use]
    pub fn now() -> Self {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
            Err(before) => Self(-i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX)),
        }
    }

    /// Creates a timestamp from microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns this point plus `duration`, held at the far end instead of overflowing.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Returns how long ago `earlier` was, zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 with six decimals: `2026-01-01T00:00:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self> {
        match text.parse::<jiff::Timestamp>() {
            Ok(t) => Ok(Self(t.as_microsecond())),
            Err(e) => Err(Error::new(ErrorKind::Decode, "timestamp", "not an RFC 3339 time")
                .with("text", text)
                .because(e)),
        }
    }
}

/// Reads a duration as people write it: `30s`, `1h30m`, `250ms`.
///
/// # Examples
/// ```
/// use railbus::clock::parse_duration;
/// use std::time::Duration;
///
/// assert_eq!(parse_duration("1m30s")?, Duration::from_secs(90));
/// assert!(parse_duration("soon").is_err() && parse_duration("-1s").is_err());
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Returns a config error that names the text if it is not a duration or is negative.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Error::new(ErrorKind::Config, "duration", format!("`{text}` is not a duration"))
            .hint("write a number and a unit, such as 250ms, 30s, 5m, 24h")
    };
    let span: jiff::SignedDuration = text.trim().parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}
