//! Running a pipeline.

use super::{
    lane::{Cause, Going, Lane, given_up},
    parts::{Limits, Pipeline},
    report::RunReport,
};
use crate::{
    cancel::Cancel,
    delivery::Delivery,
    error::{Error, ErrorKind},
    event::Event,
    payload::RawPayload,
    step::{Exception, StepError, Store},
};
use futures_util::future::BoxFuture;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

impl Pipeline {
    /// Runs the steps with the values of `store`, once it is awaited.
    ///
    /// A step's value is stored under the name of its output, for the steps after it. The first
    /// step that says no ends the run, and so does the first whose exception outlasts its tries,
    /// unless the step or the pipeline says otherwise, or a branch handles it. A panic is an
    /// exception of kind `panic`. Needs a tokio runtime only where a step has a retry, a limit of
    /// time or an executor.
    ///
    /// # Cancel safety
    /// A run that is dropped drops the step it is at, and leaves no report; [`Run::cancel_on`]
    /// leaves one.
    pub fn run(&self, store: Store) -> Run {
        Run::of(Ask {
            pipeline: self.clone(),
            store,
            event: None,
            attempt: 1,
            limits: self.limits(),
        })
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
        Run::of(Ask { pipeline: self.clone(), store, event, attempt, limits: self.limits() })
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

    fn limits(&self) -> Limits {
        Limits { cancel: None, deadline: None }
    }

    /// Runs the steps, and tells of it.
    pub(super) async fn go(
        &self,
        store: Arc<Store>,
        cause: Cause<'_>,
        limits: &Limits,
    ) -> RunReport {
        let plan = &*self.0;
        let until;
        let limits = match plan.timeout {
            None => limits,
            limit => {
                until = limits.until(limit);
                &until
            }
        };
        let going = Going { plan, cause, limits };
        let mut lane = Lane::new(store, plan.nodes.len());
        let Some(observer) = &plan.observer else {
            self.follow(going, &mut lane).await;
            return self.report(lane);
        };
        let start = Instant::now();
        observer.started().await;
        self.follow(going, &mut lane).await;
        let report = self.report(lane);
        let error = report.failed.as_ref().map(|(step, error)| (step.as_deref(), error));
        observer.ended(report.status().name(), start.elapsed(), error).await;
        report
    }

    async fn follow(&self, going: Going<'_>, lane: &mut Lane) {
        match self.missing(lane) {
            Some(error) => lane.failed = Some((None, error)),
            None => going.follow(lane, 0).await,
        }
        if let Some((step, reason)) = &lane.cancelled {
            lane.failed = Some((step.clone(), given_up(*reason)));
        }
    }

    /// Tells of a value that must be given and was not.
    fn missing(&self, lane: &Lane) -> Option<StepError> {
        let given = self.0.wanted.inputs.iter().find(|given| !lane.store.has(&given.name))?;
        let why = format!("the input `{}` is missing", given.name);
        let error = Error::new(ErrorKind::NotFound, "pipeline", why).with("pipeline", &self.0.name);
        let error = error.hint("give it to run(..), or as the event's payload");
        Some(StepError::Exception(Exception::new("input", error)))
    }

    fn report(&self, lane: Lane) -> RunReport {
        let Lane { store, trail, failed, stopped, cancelled, last, .. } = lane;
        let (plan, steps) = (Arc::clone(&self.0), OnceLock::new());
        RunReport { plan, trail, steps, store, failed, stopped, cancelled, last }
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

impl Ask {
    async fn go(self) -> RunReport {
        let cause = Cause { event: self.event.as_ref(), attempt: self.attempt };
        self.pipeline.go(Arc::new(self.store), cause, &self.limits).await
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
