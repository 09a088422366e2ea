//! The ticks of a schedule, each as one event.

use crate::{
    backend::{Advance, Outgoing, Position},
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
    id::derived_id,
    input::EventInput,
    schedule::{Due, Schedule, Tick, due},
    topic::check_name,
};
use async_trait::async_trait;
use std::{
    borrow::Borrow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::time::sleep;

/// How long is slept at most before the wall clock is looked at again: it may be set, and does not
/// stand still while a machine sleeps, as the clock that wakes this up does.
const LOOK_EVERY: Duration = Duration::from_secs(20);

type Make = Box<dyn FnMut(Tick) -> Event + Send>;
type Clock = Box<dyn FnMut() -> Timestamp + Send>;

/// An input that makes an event of each tick of a schedule.
///
/// The event has the tick's id, nominal time, and `schedule:NAME` as its source, whatever the
/// closure gave it. On a backend that stores positions each tick is stored once, however many
/// processes have a schedule of that name, and however far their clocks are apart: the first whose
/// clock says so publishes it. The position is the time of the last tick that was stored, so a
/// clock that goes back makes nothing tick again, and after a pause [`Missed`](crate::schedule::Missed)
/// says what is made up for. A clock that ran far ahead silences the schedule until that time has
/// come; then give it another name. Elsewhere each process has ticks of its own, from its start on.
///
/// # Examples
/// ```
/// use railbus::{Event, Schedule, input::EventInput, inputs::ticks::Ticks};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let beat = Schedule::every(Duration::from_millis(1))?;
/// let mut ticks = Ticks::new("beat", beat, |tick| {
///     Event::new("tick").payload(tick.at().to_string())
/// })?;
/// let one = &ticks.next().await?[0].event;
/// assert_eq!((one.source(), one.payload::<String>()?), ("schedule:beat", one.timestamp().to_string()));
///
/// // A clock of one's own, for a test.
/// let nightly = Schedule::at(["2030-01-01T02:00:00Z"])?;
/// let mut hours = ["2030-01-01T01:00:00Z", "2030-01-01T02:00:00Z"].iter().cycle();
/// let mut ticks = Ticks::new("nightly", nightly, |_| Event::new("tick"))?
///     .clock(move || hours.next().unwrap().parse().unwrap());
/// assert!(!ticks.is_endless());
/// assert_eq!(ticks.next().await?.len(), 1);
/// assert!(ticks.next().await?.is_empty(), "it has ended");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Ticks {
    name: String,
    // As positions are stored, and as the source of events.
    input: Arc<str>,
    schedule: Schedule,
    fingerprint: u64,
    make: Make,
    clock: Clock,
    // Ticks up to here are dealt with: those before the first start were not missed.
    passed: Timestamp,
    // The offset that the store has, as far as is known.
    stored: u64,
}

impl Ticks {
    /// Creates an input of the ticks after now; `name` is what the schedule is known by on its bus.
    ///
    /// # Errors
    /// Returns an error if the name breaks the limits of a topic.
    pub fn new<E: IntoEvent>(
        name: impl Into<String>,
        schedule: Schedule,
        mut event: impl FnMut(Tick) -> E + Send + 'static,
    ) -> Result<Self> {
        let name = name.into();
        check_name("name", &name)?;
        let input = format!("schedule:{name}").into();
        let fingerprint = fingerprint(&schedule);
        let make = Box::new(move |tick| event(tick).into_event().borrow().clone());
        let clock = Box::new(Timestamp::now);
        let passed = Timestamp::now();
        Ok(Self { name, input, schedule, fingerprint, make, clock, passed, stored: 0 })
    }

    /// Sets what tells the time (default: the system clock). The ticks begin anew, after what it
    /// says now.
    #[must_use]
    pub fn clock(mut self, mut clock: impl FnMut() -> Timestamp + Send + 'static) -> Self {
        self.passed = clock();
        self.clock = Box::new(clock);
        self
    }

    /// Makes the events of these ticks, each with the position it moves; one that can't be made
    /// is passed over.
    fn events(&mut self, ticks: Vec<Tick>) -> Vec<Outgoing> {
        let mut events = Vec::with_capacity(ticks.len());
        for tick in ticks {
            let event = match self.event(tick) {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(schedule = %self.name, tick = %tick.at(), %error,
                        "a tick is passed over");
                    continue;
                }
            };
            let offset = tick.at().as_micros().cast_unsigned();
            let to = Position { offset, fingerprint: self.fingerprint };
            let position = Advance { input: Arc::clone(&self.input), from: self.stored, to };
            self.stored = offset;
            events.push(Outgoing { position: Some(position), ..event.into() });
        }
        events
    }

    fn event(&mut self, tick: Tick) -> Result<Event> {
        let made = catch_unwind(AssertUnwindSafe(|| (self.make)(tick)));
        let event = made.map_err(|_| {
            Error::new(ErrorKind::Handler, "schedule", "what makes its events panicked")
        })?;
        let event = event.told_by(&tick.id(&self.name), &self.input, tick.at());
        event.check()?;
        Ok(event)
    }
}

#[async_trait]
impl EventInput for Ticks {
    /// Returns `schedule:NAME`.
    fn name(&self) -> &str {
        &self.input
    }

    fn is_endless(&self) -> bool {
        self.schedule.is_endless()
    }

    /// Goes to the last tick that was stored; without one, stays where it is.
    async fn resume(&mut self, position: Option<Position>) -> Result<()> {
        let Some(position) = position else { return Ok(()) };
        let time = Timestamp::from_micros(i64::try_from(position.offset).unwrap_or(i64::MAX));
        if position.fingerprint != self.fingerprint && self.stored == 0 {
            tracing::info!(schedule = %self.name, last = %time,
                "the schedule was another when it ticked last; the name is what counts");
        }
        (self.passed, self.stored) = (time, position.offset);
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<Outgoing>> {
        loop {
            let now = (self.clock)();
            match due(&self.schedule, &self.name, self.passed, now) {
                Due::Never => {
                    if self.stored == 0 {
                        tracing::warn!(schedule = %self.name, "all its times have passed");
                    }
                    return Ok(Vec::new());
                }
                Due::At(time) => sleep(time.since(now).min(LOOK_EVERY)).await,
                Due::Now { ticks, through, late } => {
                    if late > LOOK_EVERY {
                        tracing::warn!(schedule = %self.name, last = %through.at(), ?late,
                            publishing = ticks.len(), "ticks come late");
                    }
                    self.passed = through.at();
                    let events = self.events(ticks);
                    if !events.is_empty() {
                        return Ok(events);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticks({}: {}, after {})", self.name, self.schedule, self.passed)
    }
}

/// Returns what tells a schedule from another one under its name.
fn fingerprint(schedule: &Schedule) -> u64 {
    let id = derived_id("railbus:schedule", &schedule.to_string());
    let hex: String = id.chars().filter(|c| *c != '-').take(16).collect();
    u64::from_str_radix(&hex, 16).unwrap_or(0)
}
