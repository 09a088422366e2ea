//! The value: what is due when.

#[cfg(feature = "cron")]
use super::cron::{Cron, Wrong};
use super::tick::{Missed, Tick};
#[cfg(feature = "cron")]
use crate::excerpt::Excerpt;
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use std::{fmt, time::Duration};

/// The shortest time between two ticks.
const EVERY_MIN: Duration = Duration::from_millis(1);

/// How many of a cron's ticks are looked at for the shortest time between two.
#[cfg(feature = "cron")]
const GAPS: usize = 64;

/// When something is due: at regular intervals, at certain times, or by a cron expression.
///
/// A schedule is a pure function of the time, the same in every process that has it. Give it to
/// [`Bus::schedule`](crate::Bus::schedule), which makes an event of each tick.
///
/// # Examples
/// ```
/// use railbus::schedule::{Missed, Schedule};
/// use std::time::Duration;
///
/// let beat = Schedule::every(Duration::from_secs(30))?.jitter(Duration::from_secs(5))?;
/// let now = "2026-03-28T01:30:10Z".parse()?;
/// assert_eq!(beat.after(now).unwrap().at().to_string(), "2026-03-28T01:30:30.000000Z");
/// println!("{beat}"); // every 30s, jitter 5s
///
/// let once = Schedule::at(["2026-04-01T08:00:00+02:00"])?.missed(Missed::Skip);
/// assert!(!once.is_endless() && beat.is_endless());
/// # #[cfg(feature = "cron")] {
/// let nightly = Schedule::cron("30 2 * * *")?.time_zone("Europe/Berlin")?;
/// let tick = nightly.after("2026-03-28T12:00:00Z".parse()?).unwrap();
/// // There is no 02:30 that night: it runs when the clocks have gone forward to 03:00.
/// assert_eq!(tick.at().to_string(), "2026-03-29T01:00:00.000000Z");
/// # }
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    when: When,
    jitter: Duration,
    missed: Missed,
}

#[derive(Clone, Debug, PartialEq)]
enum When {
    Every(Duration),
    At(Vec<Timestamp>),
    #[cfg(feature = "cron")]
    Cron(Box<Cron>),
}

impl Schedule {
    /// Creates a schedule that is due once per `every`, for ever.
    ///
    /// Ticks are at the multiples of `every` since 1970-01-01T00:00:00Z, whenever a process starts:
    /// `every` 15 minutes is at :00, :15, :30 and :45, and 24 hours is midnight in UTC. Fractions
    /// of a microsecond are cut off.
    ///
    /// # Errors
    /// Returns a config error if `every` is less than a millisecond.
    pub fn every(every: Duration) -> Result<Self> {
        if every < EVERY_MIN {
            let why = match every.is_zero() {
                true => "`every` is zero",
                false => "`every` is less than a millisecond",
            };
            return Err(wrong(why).hint("write a duration such as 30s"));
        }
        let micros = u64::try_from(every.as_micros()).unwrap_or(u64::MAX);
        Ok(Self::new(When::Every(Duration::from_micros(micros))))
    }

    /// Creates a schedule that is due at each of these times, as RFC 3339 has them with their
    /// offset: `2026-04-01T08:00:00+02:00`.
    ///
    /// Times may be in any order; one that is there twice counts once. What has passed when the
    /// schedule starts for the first time does not come any more.
    ///
    /// # Errors
    /// Returns a config error that names the text if there is none, one is not such a time, or one
    /// is before 1970.
    pub fn at<T: AsRef<str>>(times: impl IntoIterator<Item = T>) -> Result<Self> {
        let mut all = Vec::new();
        for text in times {
            let text = text.as_ref();
            let hint = "write such as 2026-04-01T08:00:00Z or 2026-04-01T08:00:00+02:00";
            let time: Timestamp = text.parse().map_err(|_| {
                wrong(format!("`{}` is not an RFC 3339 time", text.escape_debug())).hint(hint)
            })?;
            if time.as_micros() <= 0 {
                return Err(wrong(format!("`{text}` is before 1970")).hint(hint));
            }
            all.push(time);
        }
        if all.is_empty() {
            return Err(wrong("there is no time").hint("name at least one"));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self::new(When::At(all)))
    }

    /// Creates a schedule of a cron expression: minute, hour, day of the month, month and day of
    /// the week, with seconds before them if there are six fields. In UTC, unless
    /// [`Schedule::time_zone`] says otherwise.
    ///
    /// Fields take `*`, lists, ranges, steps (`*/5`), names (`MON`, `JAN`), and `L`, `W` and `#`;
    /// `@yearly`, `@monthly`, `@weekly`, `@daily` and `@hourly` stand for what they say. If both
    /// days are restricted, either will do; `+` before the day of the week asks for both. After
    /// the year 4999 nothing comes.
    ///
    /// When clocks change, fixed times run once: one in the gap at the first instant after it, one
    /// that comes twice at the first. What has `*` or a step as its second, minute or hour follows
    /// the clock instead: nothing in the gap, and all that comes twice. Source: Vixie cron.
    ///
    /// # Examples
    /// ```
    /// use railbus::schedule::Schedule;
    ///
    /// let weekdays = Schedule::cron("0 9 * * MON-FRI")?;
    /// let friday = "2026-01-02T12:00:00Z".parse()?;
    /// let monday = weekdays.after(friday).unwrap();
    /// assert_eq!(monday.at().to_string(), "2026-01-05T09:00:00.000000Z");
    /// assert!(Schedule::cron("0 25 * * *").unwrap_err().message().contains("`25` can't be the hour"));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns a config error that shows the field that is wrong, also if the expression never
    /// comes: 30 February.
    #[cfg(feature = "cron")]
    pub fn cron(text: &str) -> Result<Self> {
        let cron = Cron::parse(text).map_err(|e| shown(text, &e))?;
        Ok(Self::of_cron(cron))
    }

    #[cfg(feature = "cron")]
    pub(crate) fn of_cron(cron: Cron) -> Self {
        Self::new(When::Cron(Box::new(cron)))
    }

    /// Sets the time zone of a cron expression by its name in the IANA database (default: UTC).
    /// The database is built in, so that all machines of a fleet have the same.
    ///
    /// # Examples
    /// ```
    /// use railbus::schedule::Schedule;
    ///
    /// let noon = Schedule::cron("0 12 * * *")?.time_zone("Asia/Tokyo")?;
    /// let tick = noon.after("2026-01-01T00:00:00Z".parse()?).unwrap();
    /// assert_eq!(tick.at().to_string(), "2026-01-01T03:00:00.000000Z");
    /// let error = noon.time_zone("Asia/Tokio").unwrap_err();
    /// assert_eq!(error.advice(), Some("did you mean `Asia/Tokyo`?"));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns a config error if there is no such zone, with the nearest name, or if this is no
    /// cron expression.
    #[cfg(feature = "cron")]
    pub fn time_zone(mut self, name: &str) -> Result<Self> {
        let When::Cron(cron) = self.when else {
            return Err(wrong("only a cron expression is told in a time zone")
                .hint("give `at` its times with their offset, such as 2026-04-01T08:00:00+02:00"));
        };
        let cron = cron.in_zone(name).map_err(|e| wrong(e.why).hint(e.hint))?;
        self.when = When::Cron(Box::new(cron));
        Ok(self)
    }

    /// Sets within what time after its nominal time a tick comes (default: none), so that not all
    /// schedules of the same text run at once. How late a tick is follows from its id: all
    /// processes agree on it. Ticks keep their order.
    ///
    /// # Errors
    /// Returns a config error if it is not less than the time between two ticks; of a cron
    /// expression 64 are looked at.
    pub fn jitter(mut self, jitter: Duration) -> Result<Self> {
        if self.gap().is_some_and(|gap| jitter >= gap) {
            return Err(wrong("the jitter is as long as the time between two ticks, or longer")
                .with("jitter", format!("{jitter:?}"))
                .hint("make it shorter, so that ticks keep their order"));
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// Sets what becomes of ticks that were missed (default: the latest is made up for).
    #[must_use]
    pub fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// Returns the first tick whose nominal time is after `time`, if there is one.
    #[must_use]
    pub fn after(&self, time: Timestamp) -> Option<Tick> {
        let at = match &self.when {
            When::Every(every) => {
                let every = i64::try_from(every.as_micros()).ok()?;
                let next = time.as_micros().max(0).div_euclid(every).checked_add(1)?;
                let next = Timestamp::from_micros(next.checked_mul(every)?);
                // At the end of time there is nothing after.
                (next > time).then_some(next)
            }
            When::At(times) => times.get(times.partition_point(|at| *at <= time)).copied(),
            #[cfg(feature = "cron")]
            When::Cron(cron) => cron.after(time),
        };
        at.map(Tick::new)
    }

    /// Tells whether it goes on for ever, as all do but [`Schedule::at`].
    #[must_use]
    pub fn is_endless(&self) -> bool {
        !matches!(self.when, When::At(_))
    }

    /// Returns when a tick of the schedule of that name is due: its time, and the jitter.
    ///
    /// # Examples
    /// ```
    /// use railbus::schedule::Schedule;
    /// use std::time::Duration;
    ///
    /// let hourly = Schedule::every(Duration::from_secs(3600))?.jitter(Duration::from_secs(60))?;
    /// let tick = hourly.after("2026-01-01T00:00:00Z".parse()?).unwrap();
    /// assert!(hourly.due("report", tick).since(tick.at()) < Duration::from_secs(60));
    /// assert_ne!(hourly.due("report", tick), hourly.due("backup", tick));
    /// # Ok::<(), railbus::Error>(())
    /// ```
    #[must_use]
    pub fn due(&self, name: &str, tick: Tick) -> Timestamp {
        tick.due(name, self.jitter)
    }

    pub(super) fn policy(&self) -> (Duration, Missed) {
        (self.jitter, self.missed)
    }

    fn new(when: When) -> Self {
        Self { when, jitter: Duration::ZERO, missed: Missed::default() }
    }

    /// Returns the shortest time between two ticks.
    fn gap(&self) -> Option<Duration> {
        match &self.when {
            When::Every(every) => Some(*every),
            When::At(times) => times.windows(2).map(|two| two[1].since(two[0])).min(),
            #[cfg(feature = "cron")]
            When::Cron(_) => {
                let first = self.after(Timestamp::from_micros(0));
                let next = |tick: &Tick| self.after(tick.at());
                let ticks: Vec<_> = std::iter::successors(first, next).take(GAPS).collect();
                ticks.windows(2).map(|two| two[1].at().since(two[0].at())).min()
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.when {
            When::Every(every) => write!(f, "every {every:?}")?,
            When::At(times) => {
                let times: Vec<_> = times.iter().map(ToString::to_string).collect();
                write!(f, "at {}", times.join(", "))?;
            }
            #[cfg(feature = "cron")]
            When::Cron(cron) => write!(f, "cron {} {}", cron.text, cron.zone_name)?,
        }
        match self.jitter.is_zero() {
            true => Ok(()),
            false => write!(f, ", jitter {:?}", self.jitter),
        }
    }
}

fn wrong(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, "schedule", why)
}

/// Returns the error of an expression, with a mark below the part that is wrong.
#[cfg(feature = "cron")]
fn shown(text: &str, mistake: &Wrong) -> Error {
    let place = Excerpt::of(text, &mistake.part);
    let drawn = place.line(place.digits()) + &place.marks(place.digits(), "^", "");
    wrong(format!("{}\n{drawn}", mistake.why)).hint(mistake.hint.clone())
}
