//! Points in time, as events and stores carry them.

use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "testing")]
use crate::pretend;
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
    /// Reads the system clock, or in a test with virtual time that one.
    #[must_use]
    pub fn now() -> Self {
        #[cfg(feature = "testing")]
        if let Some(micros) = pretend::wall() {
            return Self::from_micros(micros);
        }
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

/// The microseconds of a day.
const DAY: i64 = 86_400_000_000;

impl Timestamp {
    /// Returns what it is displayed as; none beyond the years that this can say.
    pub(crate) fn text(self) -> Option<[u8; 27]> {
        let (year, month, day) = civil(self.0.div_euclid(DAY));
        if !(0..=9999).contains(&year) {
            return None;
        }
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |from: usize, to: usize, mut number: i64| {
            for byte in text[from..to].iter_mut().rev() {
                *byte = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        let micros = self.0.rem_euclid(DAY);
        put(0, 4, year);
        put(5, 7, month);
        put(8, 10, day);
        put(11, 13, micros / 3_600_000_000);
        put(14, 16, micros / 60_000_000 % 60);
        put(17, 19, micros / 1_000_000 % 60);
        put(20, 26, micros % 1_000_000);
        Some(text)
    }

    /// Reads what it is displayed as; none if the text has another form.
    fn read(text: &str) -> Option<Self> {
        let text: &[u8; 27] = text.as_bytes().try_into().ok()?;
        let has = |at: usize, byte: u8| text[at] == byte;
        let marks = has(4, b'-') && has(7, b'-') && has(10, b'T') && has(13, b':');
        if !(marks && has(16, b':') && has(19, b'.') && has(26, b'Z')) {
            return None;
        }
        let number = |from: usize, to: usize| {
            text[from..to].iter().try_fold(0_i64, |number, byte| {
                byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
            })
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let days = days(year, month, day);
        // Days and months that there are not come back as others.
        if civil(days) != (year, month, day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + number(20, 26)?;
        let micros = days * DAY + micros;
        (LEAST..=MOST).contains(&micros).then_some(Self(micros))
    }
}

/// Returns the year, month and day of a day counted from 1970-01-01. Source: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Counts a day from 1970-01-01 on; the other way round than [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

impl fmt::Display for Timestamp {
    /// Writes RFC 3339 with six decimals: `2026-01-01T00:00:00.000000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text().as_ref().map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => f.write_str(text),
            _ => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(read) = Self::read(text) {
            return Ok(read);
        }
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
    fn a_time_is_written_and_read_as_rfc_3339_has_it() {
        let step = (MOST - LEAST) / 10_007;
        let around = [LEAST, -1, 0, 951_782_400_000_000, 4_107_542_400_000_000, MOST];
        let many = (0..10_007).map(|n| LEAST + n * step);
        for micros in many.chain(around.into_iter().flat_map(|m| m - 2..=m + 2)) {
            let (time, there) = (Timestamp(micros), (LEAST..=MOST).contains(&micros));
            if there {
                let written = format!("{:.6}", jiff::Timestamp::from_microsecond(micros).unwrap());
                assert_eq!(time.to_string(), written);
                assert_eq!(Timestamp::read(&written), Some(time), "{written}");
            }
        }
        for odd in [
            "2026-02-29T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01T00:00:00.00000xZ",
            "2026-01-01T00:00:00.0000000",
            "2026-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(Timestamp::read(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_time_that_no_text_can_say_is_held_at_the_ends() {
        for micros in [i64::MIN, -1, 0, i64::MAX] {
            let time = Timestamp::from_micros(micros).after(Duration::from_micros(1));
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time, "{time}");
        }
        assert!(Timestamp::from_micros(i64::MAX).after(Duration::MAX) > Timestamp::now());
    }
}
