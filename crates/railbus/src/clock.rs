//! Points in time, as events and stores carry them.

use crate::error::{Error, ErrorKind, Result};
use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The first and the last microsecond that RFC 3339 can say: 0000-01-01T00:00:00Z, and the end of
/// 9999-12-30 in the time zone furthest behind.
const LEAST: i64 = -62_167_219_200_000_000;
const MOST: i64 = 253_402_207_199_999_999;

/// How far ahead of the system clock this process takes it to be, in microseconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// Sets the clock of this process ahead, or back: its members of a group must not mind.
pub(crate) fn set_ahead(micros: i64) {
    AHEAD.store(micros, Relaxed);
}

/// A point in time in UTC, in whole microseconds, of the years 0 to 9999.
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
/// assert_eq!(end.before(Duration::from_millis(1500)), start);
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
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Self(micros.saturating_add(AHEAD.load(Relaxed)))
    }

    /// Creates a timestamp from microseconds since 1970-01-01T00:00:00Z, held at the ends of what
    /// its text can say.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros.clamp(LEAST, MOST))
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
        Self::from_micros(self.0.saturating_add(micros))
    }

    /// Returns this point minus `duration`, held at the far end instead of overflowing.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
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

/// Reads a duration as people write it: `30s`, `1h30m`, `250ms`, `30d`; a day has 24 hours.
///
/// # Examples
/// ```
/// use railbus::clock::parse_duration;
/// use std::time::Duration;
///
/// assert_eq!(parse_duration("1m30s")?, Duration::from_secs(90));
/// assert_eq!(parse_duration("2d")?, Duration::from_secs(48 * 60 * 60));
/// assert!(parse_duration("soon").is_err() && parse_duration("-1s").is_err());
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Returns a config error that names the text if it is not a duration or is negative.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let wrong = || {
        Error::new(ErrorKind::Config, "duration", format!("`{text}` is not a duration"))
            .hint("write a number and a unit, such as 250ms, 30s, 5m, 24h, 30d")
    };
    // Of days it has to be said how long they are.
    let days = |text: &str| {
        let span: jiff::Span = text.parse()?;
        span.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
    };
    let text = text.trim();
    let span = text.parse::<jiff::SignedDuration>().or_else(|_| days(text));
    Duration::try_from(span.map_err(|_| wrong())?).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_text_can_say_is_held_at_the_ends() {
        for micros in [i64::MIN, -1, 0, i64::MAX] {
            let time = Timestamp::from_micros(micros).after(Duration::from_micros(1));
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time, "{time}");
        }
        assert!(Timestamp::from_micros(i64::MAX).after(Duration::MAX) > Timestamp::now());
    }
}
