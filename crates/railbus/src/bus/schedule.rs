//! Schedules on a bus: an event for each tick.

use super::{
    feed::{feed, resume},
    open::{Bus, WeakBus},
};
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
    event::IntoEvent,
    input::EventInput,
    inputs::ticks::Ticks,
    schedule::{Schedule, Tick},
    task,
};
use std::{fmt, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long is waited until a schedule whose bus can't be reached is taken up again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Bus {
    /// Publishes an event for each tick of a schedule; what is to be done then is a subscription,
    /// such as a group's that runs a pipeline.
    ///
    /// The name is what the schedule is known by on this bus: all processes that have one of that
    /// name share its ticks. On a store that keeps positions, such as sqlite, each tick is stored
    /// once, under one id, whoever's clock is first; with a group, one member handles it. What was
    /// missed meets the schedule's [`Missed`](crate::schedule::Missed). In memory a tick is one
    /// process's, and those before its start are gone.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, Pipeline, Schedule, StepDef};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let (told, mut tellings) = tokio::sync::mpsc::unbounded_channel();
    /// let tell = StepDef::value("tell", move |_| told.send("told").is_ok());
    /// let report = Pipeline::new("report").step(tell).build()?;
    /// bus.on("report.due").group("reports").run(report).await?;
    ///
    /// // In earnest: Schedule::cron("0 2 * * *")?.time_zone("Europe/Berlin")?
    /// let often = Schedule::every(Duration::from_millis(5))?;
    /// let scheduled = bus.schedule("report", often).event(|_| Event::new("report.due"))?;
    /// assert_eq!(tellings.recv().await, Some("told"));
    /// scheduled.cancel();
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use = "a schedule begins when it is told what its events are"]
    pub fn schedule(&self, name: impl Into<String>, schedule: Schedule) -> Scheduling {
        Scheduling { bus: self.clone(), name: name.into(), schedule, clock: None }
    }
}

type Clock = Box<dyn FnMut() -> Timestamp + Send>;

/// A schedule in the making, by [`Bus::schedule`].
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Schedule, bus::{Scheduled, Scheduling}, clock::Timestamp};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let beat: Scheduling = bus.schedule("beat", Schedule::every(Duration::from_secs(1))?);
/// let beat: Scheduled = beat.clock(Timestamp::now).event(|_| Event::new("tick"))?;
/// assert_eq!(beat.name(), "beat");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "a schedule begins when it is told what its events are"]
pub struct Scheduling {
    bus: Bus,
    name: String,
    schedule: Schedule,
    clock: Option<Clock>,
}

impl Scheduling {
    /// Sets what tells the time (default: the system clock), for tests.
    pub fn clock(mut self, clock: impl FnMut() -> Timestamp + Send + 'static) -> Self {
        self.clock = Some(Box::new(clock));
        self
    }

    /// Begins: from here on `event` makes the event of each tick, which is then published under
    /// the tick's id and time. A tick whose event panics or is malformed is passed over, and
    /// logged; one that the backend finds too large becomes a dead letter.
    ///
    /// It ends with the bus, by [`Scheduled::cancel`], or by itself after the last tick.
    ///
    /// # Errors
    /// Returns an error if the name breaks the limits of a topic, the bus is closed, or outside of
    /// a runtime.
    pub fn event<E: IntoEvent>(
        self,
        event: impl FnMut(Tick) -> E + Send + 'static,
    ) -> Result<Scheduled> {
        let Self { bus, name, schedule, clock } = self;
        bus.check_open("schedule")?;
        let runtime = task::runtime("schedule")?;
        // Told here: a runtime without a clock is nothing to find out about at the first tick.
        drop(task::sleep("schedule", Duration::ZERO)?);
        let mut ticks = Ticks::new(&*name, schedule, event)?;
        if let Some(clock) = clock {
            ticks = ticks.clock(clock);
        }
        let cancelled = bus.0.closing.child_token();
        let work = run(ticks, bus.downgrade(), cancelled.clone());
        bus.0.tasks.spawn_on(bus.0.bounded(work), &runtime);
        Ok(Scheduled { name, cancelled })
    }
}

impl fmt::Debug for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduling({}: {})", self.name, self.schedule)
    }
}

/// A schedule at work; dropping this does not end it.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Schedule, bus::Scheduled};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// let once = Schedule::at(["2100-01-01T00:00:00Z"])?;
/// let scheduled: Scheduled = bus.schedule("century", once).event(|_| Event::new("century"))?;
/// scheduled.cancel();
/// assert!(scheduled.is_cancelled());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Scheduled {
    name: String,
    cancelled: CancellationToken,
}

impl Scheduled {
    /// Returns the schedule's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends it in this process: no tick after this is published here. Cancelling again does
    /// nothing.
    pub fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Tells whether it was cancelled, or its bus closed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}

/// Publishes ticks until it is cancelled. An outage of the backend does not end it: what was missed
/// meanwhile meets the schedule's policy.
async fn run(mut ticks: Ticks, bus: WeakBus, cancelled: CancellationToken) {
    loop {
        let Err(error) = take_up(&mut ticks, &bus, &cancelled).await else { return };
        if error.kind() == ErrorKind::Closed || cancelled.is_cancelled() {
            return;
        }
        if !error.is_retryable() {
            tracing::error!(schedule = ticks.name(), %error, "a schedule ended");
            return;
        }
        tracing::warn!(schedule = ticks.name(), %error, again_in = ?AGAIN_AFTER, "ticks wait");
        tokio::select! {
            biased;
            () = cancelled.cancelled() => return,
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

async fn take_up(
    ticks: &mut Ticks,
    bus: &WeakBus,
    cancelled: &CancellationToken,
) -> Result<(), Error> {
    match bus.upgrade() {
        Some(bus) => resume(ticks, &bus).await?,
        None => return Ok(()),
    }
    feed(ticks, bus.clone(), None, cancelled.cancelled()).await
}
