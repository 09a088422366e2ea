//! One tick of a schedule, and what becomes of those that nobody was there for.

use crate::{clock::Timestamp, id::derived_id};
use std::time::Duration;

/// A time at which a schedule is due.
///
/// # Examples
/// ```
/// use railbus::schedule::{Schedule, Tick};
/// use std::time::Duration;
///
/// let hourly = Schedule::every(Duration::from_secs(3600))?;
/// let tick: Tick = hourly.after("2026-01-01T09:20:00Z".parse()?).unwrap();
/// assert_eq!(tick.at().to_string(), "2026-01-01T10:00:00.000000Z");
/// // Whoever works it out gets the same id: in a fleet a tick is one event.
/// assert_eq!(tick.id("report"), hourly.after("2026-01-01T09:59:59Z".parse()?).unwrap().id("report"));
/// assert_ne!(tick.id("report"), tick.id("backup"));
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(Timestamp);

impl Tick {
    pub(super) fn new(at: Timestamp) -> Self {
        Self(at)
    }

    /// Returns its nominal time, without jitter.
    #[must_use]
    pub fn at(self) -> Timestamp {
        self.0
    }

    /// Returns the id of the event that it is, in the schedule of that name.
    #[must_use]
    pub fn id(self, name: &str) -> String {
        derived_id(&format!("schedule:{name}"), &self.0.as_micros().to_string())
    }

    /// Returns when it is due: up to `jitter` after its time, by its id, so that all processes
    /// agree on it.
    pub(super) fn due(self, name: &str, jitter: Duration) -> Timestamp {
        if jitter.is_zero() {
            return self.0;
        }
        let share = self.id(name).get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let micros = (jitter.as_micros() * u128::from(share.unwrap_or(0))) >> 32;
        self.0.after(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
    }
}

/// What becomes of ticks that were missed: one that is more than a minute late, be it that nobody
/// ran, that the machine slept or that its clock was set, and one whose successor is due as well.
///
/// What lies before the first start of a schedule was not missed.
///
/// # Examples
/// ```
/// use railbus::schedule::{Missed, Schedule};
///
/// let nightly = Schedule::at(["2026-01-01T02:00:00Z", "2026-01-02T02:00:00Z"])?;
/// assert_eq!(nightly.clone().missed(Missed::default()), nightly.missed(Missed::Latest));
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Missed {
    /// None is made up for.
    Skip,
    /// The latest is made up for, once; the others are not.
    #[default]
    Latest,
    /// Each is made up for, oldest first; of more than 1,000 the latest 1,000.
    All,
}
