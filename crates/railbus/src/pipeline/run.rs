//! Running a pipeline.

use super::{
    build::{Pipeline, Plan},
    one::{Came, Cause, One},
    report::{RunReport, StepReport, StopReason},
};
use crate::{
    delivery::Delivery,
    error::{Error, ErrorKind},
    event::Event,
    payload::RawPayload,
    step::{Exception, Flow, StepError, Store},
};
use std::sync::Arc;
use tokio::time::Instant;

impl Pipeline {
    /// Runs the steps with the values of `store`.
    ///
    /// A step's value is stored under the name of its output, for the steps after it. The first
    /// step that says no ends the run, and so does the first whose exception outlasts its tries,
    /// unless the step or the pipeline says otherwise. A panic is an exception of kind `panic`.
    /// Needs a tokio runtime only where a step has a retry or an executor.
    ///
    /// # Cancel safety
    /// A run that is dropped drops the step it is at, and leaves no report.
    pub async fn run(&self, store: Store) -> RunReport {
        self.start(store, Cause { event: None, attempt: 1 }).await
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
        let (event, attempt) = (delivery.event(), delivery.attempt());
        let report = self.start(self.store_of(event), Cause { event: Some(event), attempt }).await;
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
    pub async fn run_event(&self, event: &Event, attempt: u32) -> RunReport {
        self.start(self.store_of(event), Cause { event: Some(event), attempt }).await
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

    async fn start(&self, store: Store, cause: Cause<'_>) -> RunReport {
        let plan = &*self.0;
        let mut run = Run::new(plan, store, cause);
        let Some(observer) = &plan.observer else {
            run.go().await;
            return run.report;
        };
        let start = Instant::now();
        observer.started().await;
        run.go().await;
        let report = run.report;
        let error = report.failed.as_ref().map(|(step, error)| (step.as_deref(), error));
        observer.ended(report.status().name(), start.elapsed(), error).await;
        report
    }
}

/// A run under way.
struct Run<'a> {
    plan: &'a Plan,
    cause: Cause<'a>,
    report: RunReport,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, store: Store, cause: Cause<'a>) -> Self {
        let report = RunReport {
            pipeline: Arc::clone(&plan.name),
            steps: plan.nodes.iter().map(|node| StepReport::not_run(&node.def.name)).collect(),
            store: Arc::new(store),
            failed: None,
            stopped: None,
        };
        Self { plan, cause, report }
    }

    /// Follows the flow from its first step to where it ends.
    async fn go(&mut self) {
        if let Err(error) = self.check_inputs() {
            self.report.failed = Some((None, error));
            return;
        }
        let mut at = Some(0);
        while let Some(index) = at {
            let one = One { plan: self.plan, index, cause: self.cause };
            let came = one.run(&mut self.report.store, &mut self.report.steps[index]).await;
            at = self.after(index, came);
        }
    }

    /// Checks that the values which must be given were.
    fn check_inputs(&self) -> Result<(), StepError> {
        let missing =
            self.plan.wanted.inputs.iter().find(|given| !self.report.store.has(&given.name));
        let Some(given) = missing else { return Ok(()) };
        let why = format!("the input `{}` is missing", given.name);
        let error =
            Error::new(ErrorKind::NotFound, "pipeline", why).with("pipeline", &self.plan.name);
        let error = error.hint("give it to run(..), or as the event's payload");
        Err(StepError::Exception(Exception::new("input", error)))
    }

    /// Decides where the run goes after a step.
    fn after(&mut self, index: usize, came: Came) -> Option<usize> {
        let node = &self.plan.nodes[index];
        let (name, stops, strict) = (&node.def.name, node.def.stops, !self.plan.lenient);
        let (stop, reason) = match came {
            Ok(Flow::Stop(_)) => (true, StopReason::Asked),
            Ok(Flow::Skip) => (false, StopReason::Success),
            Ok(_) => (stops.success.unwrap_or(false), StopReason::Success),
            Err(error) => {
                let (stop, reason) = match &error {
                    StepError::Failure(_) => (stops.error, StopReason::Failure),
                    StepError::Exception(_) => (stops.exception, StopReason::Exception),
                };
                let worse = match &self.report.failed {
                    None => true,
                    Some((_, known)) => {
                        matches!(known, StepError::Failure(_)) && reason == StopReason::Exception
                    }
                };
                if worse {
                    self.report.failed = Some((Some(Arc::clone(name)), error));
                }
                (stop.unwrap_or(strict), reason)
            }
        };
        if stop {
            self.report.stopped = Some((Arc::clone(name), reason));
            return None;
        }
        node.next
    }
}
