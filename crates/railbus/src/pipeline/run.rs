//! Running a pipeline.

use super::{
    durable::{Durable, LEASE, Opened},
    lane::{Cause, Going, given_up},
    log::Log,
    names::check_kept,
    parts::{Limits, Pipeline},
    report::RunReport,
    status::Status,
};
use crate::{
    bus::Bus,
    cancel::Cancel,
    delivery::Delivery,
    error::Result,
    event::Event,
    journal::RunEnd,
    payload::RawPayload,
    step::{Exception, StepError, Store},
    task,
};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

impl Pipeline {
    /// Runs the steps with the values of `store`, once it is awaited.
    ///
    /// A step's value is stored under the name of its output, for the steps after it. The first
    /// step that says no ends the run, and so does the first whose exception outlasts its tries,
    /// unless the step or the pipeline says otherwise, or a branch handles it. A panic is an
    /// exception of kind `panic`, also one of a value that is dropped or encoded between steps: that
    /// ends the run, and no step is blamed. Needs a tokio runtime only where a step has a retry, a limit of
    /// time or an executor.
    ///
    /// # Cancel safety
    /// A run that is dropped drops the step it is at, and leaves no report; [`Run::cancel_on`]
    /// leaves one.
    pub fn run(&self, store: Store) -> Run {
        Run::of(self.ask(store, None, 1))
    }

    /// Runs the steps for an event: its payload is the value of the pipeline's single input, or
    /// has the values of several as fields, and with them what steps take if it is there.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, Pipeline, StepDef, delivery::Delivery};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let count = StepDef::fallible("count", |input| {
    ///     Ok(railbus::Flow::next(input.get::<Vec<u8>>("order")?.len()))
    /// });
    /// let pipeline = Pipeline::new("p").input::<Vec<u8>>("order").step(count).build()?;
    /// let order = Event::new("order.placed").payload(vec![1_u8, 2]);
    /// let report = pipeline.run_event(&order, 1).await;
    /// assert_eq!(*report.get::<usize>("count")?, 2);
    ///
    /// let bus = Bus::new();
    /// let run = async move |delivery: Delivery| pipeline.run_for(&delivery).await.into_result();
    /// bus.on("order.placed").run(run).await?;
    /// let failed = bus.publish(Event::new("order.placed").payload("no bytes")).await?.failures;
    /// assert_eq!(failed.len(), 1);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`].
    pub async fn run_for(&self, delivery: &Delivery) -> RunReport {
        let report = self.run_event(delivery.event(), delivery.attempt()).await;
        if report.steps().iter().any(|step| step.tries > 1) {
            delivery.note_retry();
        }
        report
    }

    /// Runs the steps for an event that was not delivered, as if this were try `attempt` of it,
    /// from 1: for tests.
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`].
    pub fn run_event(&self, event: &Event, attempt: u32) -> Run {
        let (store, event) = (self.store_of(event), Some(event.clone()));
        Run::of(self.ask(store, event, attempt))
    }

    fn store_of(&self, event: &Event) -> Store {
        let mut store = Store::new();
        let wanted = &self.0.wanted;
        match &wanted.inputs[..] {
            [] => {}
            [only] => store.keep(&only.name, event.raw_payload().clone()),
            several => {
                let names = several.iter().map(|given| &given.name).chain(&wanted.optional);
                for name in names {
                    if let Some(value) = event.raw_payload().at(name) {
                        store.keep(name, RawPayload::of(value.clone()));
                    }
                }
            }
        }
        store
    }

    fn ask(&self, store: Store, event: Option<Event>, attempt: u32) -> Ask {
        let limits = Limits { cancel: None, deadline: None };
        let journal = self.0.journal.clone();
        let (id, is_resumed, waits) = (None, false, false);
        let lease = self.0.lease.unwrap_or(LEASE);
        let durable = journal.map(|journal| Durable { journal, id, lease, is_resumed, waits });
        Ask { pipeline: self.clone(), store, event, attempt, limits, durable }
    }

    /// Goes on with a run that was begun under this id and kept in the bus's journal, by this
    /// process or another: what its steps came to is taken from there, and those that are not
    /// recorded run. One that has ended comes to the same report again.
    ///
    /// Someone who runs it still holds it for a while after their last sign of life, 30 seconds
    /// unless it said otherwise: until then it is a stale error. All errors of the journal are
    /// exceptions of kind `journal` in the report.
    ///
    /// # Examples
    /// ```
    /// # async fn go_on(bus: railbus::Bus, pipeline: railbus::Pipeline) -> railbus::Result<()> {
    /// let report = pipeline.resume(&bus, "order-7")?.await;
    /// println!("{report}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns an unsupported error if the bus keeps no journal.
    ///
    /// # Cancel safety
    /// As [`Pipeline::run`].
    pub fn resume(&self, bus: &Bus, id: impl Into<String>) -> Result<Run> {
        let run = self.run(Store::new()).journal(bus, id)?;
        Ok(run.with(|ask| {
            if let Some(durable) = &mut ask.durable {
                durable.is_resumed = true;
            }
        }))
    }
}

/// A run of a pipeline: begins when it is first polled, and comes to its report.
///
/// # Examples
/// ```
/// use railbus::{Cancel, Pipeline, Status, pipeline::{CancelReason, Run}, step, store};
/// use std::{future::pending, time::Duration};
///
/// #[step]
/// async fn wait(cancel: Cancel) {
///     cancel.cancel(); // usually by someone else
///     pending().await
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let pipeline = Pipeline::new("p").step(wait).build()?;
/// let run: Run = pipeline.run(store! {}).cancel_on(&Cancel::new()).timeout(Duration::from_secs(60));
/// let report = run.await;
/// assert_eq!(report.status(), Status::Cancelled);
/// assert_eq!(report.cancelled(), Some((Some("wait"), CancelReason::Asked)));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[must_use = "a run begins when it is awaited"]
pub struct Run(State);

enum State {
    Asked(Option<Box<Ask>>),
    Going(BoxFuture<'static, RunReport>),
}

/// What a run is to do.
struct Ask {
    pipeline: Pipeline,
    store: Store,
    event: Option<Event>,
    attempt: u32,
    limits: Limits,
    durable: Option<Durable>,
}

impl Run {
    fn of(ask: Ask) -> Self {
        Self(State::Asked(Some(Box::new(ask))))
    }

    fn with(mut self, change: impl FnOnce(&mut Ask)) -> Self {
        if let State::Asked(Some(ask)) = &mut self.0 {
            change(ask);
        }
        self
    }

    /// Gives the run up when `cancel` is used: an async step is dropped where it awaits, one in a
    /// process is killed, one on a thread is told by [`Input::is_cancelled`](crate::step::Input::is_cancelled)
    /// and not waited for. The report says where.
    pub fn cancel_on(self, cancel: &Cancel) -> Self {
        self.with(|ask| ask.limits.cancel = Some(cancel.clone()))
    }

    /// Gives the run up after so long, counted from now, as [`Run::cancel_on`] does. A limit of the
    /// pipeline's own holds as well.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|ask| ask.limits = ask.limits.until(Some(limit)))
    }
}

impl Run {
    /// Keeps the run in the bus's journal, under an id: what each step came to is recorded before
    /// the next starts, so that the same call goes on where its process died, and runs no step again
    /// that is recorded. A run that has ended comes to the same report, and runs nothing.
    ///
    /// A step that was under way runs again. Values must be encodable, and steps do the same for the
    /// same values; whether one is left out, repeats or is tried again is recorded with them. What the
    /// run was given when it began counts, not what the same call gives later. Someone else who runs
    /// it, as a stale error that says who and for how long, a graph that has changed since (the
    /// difference is shown), and whatever the journal can't do, with the step that was not recorded,
    /// are exceptions of kind `journal`. A run that is given up has ended; one that is dropped is left, as
    /// if its process had died.
    ///
    /// The graph is its steps' names, what they need and leave, the ways between them, how groups are
    /// judged, and what ends a run; how often a step is tried, where and how long may change.
    ///
    /// # Errors
    /// Returns an unsupported error if the bus keeps no journal, a config error if a step leaves what
    /// is [`Opaque`](crate::step::Opaque).
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Pipeline, StepDef, store};
    /// use std::time::Duration;
    ///
    /// # #[cfg(feature = "sqlite")]
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let folder = tempfile::tempdir().unwrap();
    /// let bus = Bus::open(format!("sqlite:{}", folder.path().join("runs.db").display())).await?;
    /// let label = StepDef::value("label", |_| "a label");
    /// let pipeline = Pipeline::new("ship").step(label).build()?;
    /// let run = pipeline.run(store! {}).journal(&bus, "order-7")?.lease(Duration::from_secs(5));
    /// assert_eq!(run.await.id(), Some("order-7"));
    /// let again = pipeline.resume(&bus, "order-7")?.await;
    /// assert_eq!(*again.get::<String>("label")?, "a label");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub fn journal(self, bus: &Bus, id: impl Into<String>) -> Result<Self> {
        let (journal, id, is_resumed, waits) = (bus.journal()?, Some(id.into()), false, false);
        if let State::Asked(Some(ask)) = &self.0 {
            check_kept(&ask.pipeline.0)?;
        }
        Ok(self.with(|ask| {
            let lease = ask.pipeline.0.lease.unwrap_or(LEASE);
            ask.durable = Some(Durable { journal, id, lease, is_resumed, waits });
        }))
    }

    /// Sets for how long a run that is kept is held without a sign of life (default what its pipeline
    /// says, else 30 s): then
    /// anyone may take it over. A sign of life is each record, and a renewal every third of it, by
    /// which the run also hears that someone elsewhere asked for its end. On a runtime with one
    /// thread a step that holds that thread for longer loses the run: give it an executor.
    ///
    /// # Examples
    /// ```
    /// # fn begin(bus: &railbus::Bus, pipeline: &railbus::Pipeline) -> railbus::Result<()> {
    /// let run = pipeline.run(railbus::store! {}).journal(bus, "order-7")?;
    /// let run = run.lease(std::time::Duration::from_secs(5));
    /// # Ok(()) }
    /// ```
    pub fn lease(self, lease: Duration) -> Self {
        self.with(|ask| {
            if let Some(durable) = &mut ask.durable {
                durable.lease = lease;
            }
        })
    }

    /// Waits for a run that is kept and that someone else runs (default: that is a stale error): until
    /// they end it, then to the same report; until they show no sign of life for its lease, then to
    /// go on with it. Needs a runtime with a clock.
    ///
    /// # Examples
    /// ```
    /// # async fn go_on(bus: railbus::Bus, pipeline: railbus::Pipeline) -> railbus::Result<()> {
    /// // Its process was killed a moment ago, and holds it for a while still.
    /// let report = pipeline.resume(&bus, "order-7")?.when_free().await;
    /// # Ok(()) }
    /// ```
    pub fn when_free(self) -> Self {
        self.with(|ask| {
            if let Some(durable) = &mut ask.durable {
                durable.waits = true;
            }
        })
    }
}

impl Ask {
    async fn go(self) -> RunReport {
        let Self { pipeline, store, event, attempt, limits, durable } = self;
        let cause = Cause { event: event.as_ref(), attempt };
        let plan = &*pipeline.0;
        let Some(durable) = durable else {
            let going = Going { plan, cause, limits: &limits, watch: None, log: None, prefix: "" };
            return pipeline.go(Arc::new(store), going).await;
        };
        let limits = limits.apart();
        let opened = durable.open(&pipeline, store, cause, &limits).await;
        let Opened { id, log, store, event: before } = match opened {
            Ok(opened) => opened,
            Err(error) => return pipeline.not_begun(error),
        };
        let cause = Cause { event: event.as_ref().or(before.as_ref()), attempt };
        let going =
            Going { plan, cause, limits: &limits, watch: None, log: Some(&log), prefix: "" };
        let alive = log.keep_alive();
        if alive.is_some() {
            // What was spawned last is this thread's to begin: it must before a step holds the thread.
            task::breathe().await;
        }
        let mut report = pipeline.go(Arc::new(store), going).await;
        drop(alive);
        report.id = Some(id);
        report.is_kept(&log).await;
        report
    }
}

impl RunReport {
    /// Has the journal keep how the run ended; tells if it can't.
    async fn is_kept(&mut self, log: &Log) {
        if log.broken().is_some() {
            return log.release().await;
        }
        if let Some((step, reason)) = log.given_up() {
            self.failed = Some((step.clone(), given_up(reason)));
            self.cancelled = Some((step, reason));
        }
        self.is_called_off = self.cancelled.is_some() && log.is_called_off();
        let error = self.failed.as_ref().map(|(_, error)| error);
        let step = self.cancelled.as_ref().and_then(|(step, _)| step.as_deref());
        if let Err(error) = log.end(self.status().into(), error, step).await {
            let error = StepError::Exception(Exception::new("journal", error));
            (self.failed, self.cancelled) = (Some((None, error)), None);
            log.release().await;
        }
    }
}

impl From<Status> for RunEnd {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::Success,
            Status::Failure => Self::Failure,
            Status::Exception => Self::Exception,
            Status::Stopped => Self::Stopped,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

impl Future for Run {
    type Output = RunReport;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RunReport> {
        if let State::Asked(ask) = &mut self.0 {
            // None: a run that is through is polled again.
            let Some(ask) = ask.take() else { return Poll::Pending };
            self.0 = State::Going(Box::pin(ask.go()));
        }
        let State::Going(going) = &mut self.0 else { return Poll::Pending };
        let report = going.as_mut().poll(cx);
        if report.is_ready() {
            self.0 = State::Asked(None);
        }
        report
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Asked(Some(ask)) => write!(f, "Run(of {})", ask.pipeline.name()),
            State::Asked(None) => f.write_str("Run(through)"),
            State::Going(_) => f.write_str("Run(under way)"),
        }
    }
}
