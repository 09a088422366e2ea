//! A running app: what its file says, put to work.

use super::{
    doubt::Doubt,
    make,
    spec::{AppSpec, InputSpec, SubscriptionSpec},
    summary::{Summary, of_process},
};
#[cfg(feature = "webhook")]
use crate::inputs::http::Http;
use crate::{
    backend::{RunMark, Tally},
    bus::{Bus, On, Opening, feed, resume},
    delivery::Delivery,
    error::{BoxError, Error, ErrorKind, Result},
    event::Event,
    input::EventInput,
    inputs::{ndjson::Ndjson, ticks::Ticks},
    instrument::Counter,
    payload::RawPayload,
    pipeline::Pipeline,
    predicate::Interest,
};
use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// How often an idle app looks whether other processes are through with its events.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long handlers may go on after the first signal.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// An app at work: its subscriptions handle events; [`App::run`] reads its inputs.
///
/// # Examples
/// ```
/// use railbus::app::{App, AppSpec, Ended, LoadError, Progress, Summary};
/// use tokio::sync::watch;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(folder.path().join("orders.ndjson"), "{\"type\": \"order.placed\"}\n").unwrap();
/// std::fs::write(&path, r#"
///     bus.url = "memory:"
///     input = [{ kind = "ndjson", path = "orders.ndjson" }]
///     steps.check.command = ["cat"]
///     pipelines.fulfil.flow = "check"
///     on = [{ type = "order.*", pipeline = "fulfil" }]
/// "#).unwrap();
/// let spec = AppSpec::load(&path, std::iter::empty()).unwrap();
/// assert_eq!(spec.build_pipelines()?[0].name(), "fulfil");
/// let app = App::open(&spec).await?; // or App::open_observed, to hear of each step
/// assert_eq!(app.endless_input(), None);
/// let (bus, (_stop, stopped)) = (app.bus().clone(), watch::channel(false));
/// let (ended, summary): (Ended, Summary) = app.run(true, stopped).await?;
/// assert!(matches!(ended, Ended::Idle) && !summary.has_failures());
/// assert!(summary.left() == 0 && !summary.is_empty());
/// assert_eq!(Progress::of(&bus).succeeded, 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct App {
    bus: Bus,
    inputs: Vec<Box<dyn EventInput>>,
    groups: Vec<(String, Interest)>,
    run: Option<RunMark>,
    runs: Arc<Counter>,
    began: Instant,
}

/// How a run ended.
#[non_exhaustive]
#[derive(Debug)]
pub enum Ended {
    /// Inputs are exhausted and everything is settled.
    Idle,
    /// Asked to stop; what ran has finished.
    Stopped,
    /// An input or a group can't go on, for this reason.
    Broken(Error),
}

/// How far a run is, as this process sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Events published by the inputs.
    pub published: u64,
    /// Events handled.
    pub succeeded: u64,
    /// Tries that failed and are made again.
    pub retried: u64,
    /// Events given up.
    pub given_up: u64,
}

impl Progress {
    /// Returns how far the app on this bus is.
    #[must_use]
    pub fn of(bus: &Bus) -> Self {
        let counters = bus.counters();
        Self {
            published: counters.published.get(),
            succeeded: counters.succeeded.get(),
            retried: counters.retried.get(),
            given_up: counters.failed.get() + counters.dead_lettered.get(),
        }
    }
}

impl App {
    /// Opens the bus, begins the run and opens all subscriptions at once.
    ///
    /// # Errors
    /// Returns what the backend, an input or a subscription refuses.
    pub async fn open(spec: &AppSpec) -> Result<Self> {
        Self::opened(spec, spec.hears_steps()).await
    }

    /// Opens it as [`App::open`] does; its bus also tells of every pipeline and step, as
    /// [`PipelineBuilder::observe`](crate::PipelineBuilder::observe) says, for who shows it.
    ///
    /// # Errors
    /// As [`App::open`].
    pub async fn open_observed(spec: &AppSpec) -> Result<Self> {
        Self::opened(spec, true).await
    }

    async fn opened(spec: &AppSpec, observed: bool) -> Result<Self> {
        let bus = Bus::open(spec.bus.clone()).await?;
        let started = match pipelines(spec, &bus, observed) {
            Ok(pipelines) => Self::start(spec, &bus, &pipelines).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(app) => Ok(app),
            Err(e) => {
                // The error that matters is why it could not start.
                let _ = bus.close_within(Duration::from_secs(1)).await;
                Err(e)
            }
        }
    }

    async fn start(
        spec: &AppSpec,
        bus: &Bus,
        pipelines: &HashMap<&str, Arc<Pipeline>>,
    ) -> Result<Self> {
        let mut inputs = spec.inputs.iter().map(input).collect::<Result<Vec<_>>>()?;
        for input in &mut inputs {
            resume(&mut **input, bus).await?;
        }
        let groups = groups(&spec.subscriptions);
        if let (Some((name, _)), None) = (groups.first(), bus.accounts()) {
            let why = format!("{} keeps no accounts of what groups did", bus.capability().name);
            return Err(Error::new(ErrorKind::Unsupported, "run", why)
                .with("group", name)
                .hint("use a bus that does, such as sqlite:PATH, or leave out the groups"));
        }
        let run = match bus.accounts() {
            Some(accounts) => Some(accounts.begin(&groups).await?),
            None => None,
        };
        let runs = Arc::new(Counter::default());
        let openings = spec.subscriptions.iter().filter_map(|on| {
            #[cfg(feature = "webhook")]
            if let Some(post) = &on.post {
                return Some(subscribing(bus, on).run(post.endpoint.clone()));
            }
            let pipeline = Arc::clone(pipelines.get(on.pipeline.as_str())?);
            Some(opening(bus, on, pipeline, &runs))
        });
        bus.open_all(openings.collect::<Vec<_>>()).await?;
        Ok(Self { bus: bus.clone(), inputs, groups, run, runs, began: Instant::now() })
    }

    /// Returns the app's bus.
    #[must_use]
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Returns the name of an input that never ends, if there is one.
    #[must_use]
    pub fn endless_input(&self) -> Option<&str> {
        self.inputs.iter().find(|input| input.is_endless()).map(|input| input.name())
    }

    /// Reads the inputs to their ends and lets the subscriptions work until `stop` turns true, or
    /// until everything is settled if `until_idle`. The bus is drained then, but not closed: what
    /// it keeps can still be asked.
    ///
    /// # Errors
    /// Returns an error if the counts can't be read.
    pub async fn run(
        mut self,
        until_idle: bool,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(Ended, Summary)> {
        let mut reading = JoinSet::new();
        for mut input in std::mem::take(&mut self.inputs) {
            let (bus, run, mut stop) = (self.bus.downgrade(), self.run, stop.clone());
            reading.spawn(async move {
                let stop = async move { drop(stop.wait_for(|stop| *stop).await) };
                feed(&mut *input, bus, run, stop).await
            });
        }
        let ended = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Ended::Stopped,
            error = self.bus.failed() => Ended::Broken(error),
            ended = self.work(&mut reading, until_idle) => ended,
        };
        // An input in the middle of a batch publishes it, or the batch is read again next time.
        if matches!(ended, Ended::Stopped) {
            let finished = async { while reading.join_next().await.is_some() {} };
            let _ = timeout(DRAIN_WITHIN, finished).await;
        }
        reading.abort_all();
        let summary = self.settle_up().await?;
        Ok((ended, summary))
    }

    /// Waits for the inputs and, if `until_idle`, for everything to be settled.
    async fn work(&self, reading: &mut JoinSet<Result<()>>, until_idle: bool) -> Ended {
        while let Some(read) = reading.join_next().await {
            let died = |e| Error::new(ErrorKind::Internal, "input", "reading panicked").because(e);
            if let Err(error) = read.map_err(died).flatten() {
                return Ended::Broken(error);
            }
        }
        if !until_idle {
            return std::future::pending().await;
        }
        match self.idle().await {
            Ok(()) => Ended::Idle,
            Err(error) => Ended::Broken(error),
        }
    }

    /// Waits until none of the app's groups has an unsettled event, whoever holds it, and no
    /// broadcast is left to handle here.
    async fn idle(&self) -> Result<()> {
        let mut doubt = Doubt::default();
        loop {
            match self.is_settled().await {
                Ok(true) => return Ok(()),
                Ok(false) => doubt.ends(),
                // A server that is away for a while ends no group, and not this either.
                Err(error) if error.is_retryable() => {
                    doubt.goes_on(&error);
                    sleep(LOOK_EVERY).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            // A change may come between looking and waiting; looking again bounds that.
            match self.bus.accounts() {
                Some(accounts) => drop(timeout(LOOK_EVERY, accounts.changed()).await),
                None => sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn is_settled(&self) -> Result<bool> {
        let settled = match self.bus.accounts() {
            Some(accounts) => accounts.is_idle(&self.groups).await?,
            None => true,
        };
        Ok(settled && self.bus.is_quiet().await?)
    }

    /// Lets what runs finish, then counts.
    async fn settle_up(&self) -> Result<Summary> {
        let draining = self.bus.drain();
        let _drained = draining.settle(DRAIN_WITHIN).await;
        let broadcasts = of_process(self.bus.counters());
        let (events, broadcasts) = match (self.bus.accounts(), self.run) {
            (Some(accounts), Some(run)) if !self.groups.is_empty() => {
                let tally = accounts.tally(run).await?;
                accounts.end(run).await?;
                // Lines that never became events are dead letters of the store.
                let broadcasts =
                    Tally { failed: self.bus.counters().broadcasts.failed.get(), ..broadcasts };
                (tally, Some(broadcasts).filter(|b| b.succeeded + b.failed > 0))
            }
            _ => (broadcasts, None),
        };
        Ok(Summary::new(events, broadcasts, self.runs.get(), self.began.elapsed()))
    }
}

impl AppSpec {
    /// Builds the pipelines, in the file's order: to draw them.
    ///
    /// # Errors
    /// Returns what building the first that can't be built refuses.
    pub fn build_pipelines(&self) -> Result<Vec<Pipeline>> {
        let steps = make::steps(&self.steps, &self.folder)?;
        self.pipelines.iter().map(|one| make::pipeline(one, &steps).build()).collect()
    }
}

fn pipelines<'a>(
    spec: &'a AppSpec,
    bus: &Bus,
    observed: bool,
) -> Result<HashMap<&'a str, Arc<Pipeline>>> {
    let steps = make::steps(&spec.steps, &spec.folder)?;
    let built = spec.pipelines.iter().map(|one| {
        let builder = make::pipeline(one, &steps);
        // Over when the event comes again that a dead process held.
        let leases = spec.subscriptions.iter().filter(|on| on.pipeline == one.name);
        let lease = leases.map(|on| on.lease / 2).min();
        let builder = match (one.journal, lease) {
            (true, Some(lease)) => builder.durable(bus).lease(lease),
            (true, None) => builder.durable(bus),
            (false, _) => builder,
        };
        let builder = if observed { builder.observe(bus) } else { builder };
        Ok((one.name.as_str(), Arc::new(builder.build()?)))
    });
    built.collect()
}

fn input(spec: &InputSpec) -> Result<Box<dyn EventInput>> {
    Ok(match spec {
        InputSpec::Ndjson(spec) => {
            let path = spec.path.as_deref().unwrap_or(Path::new("-"));
            let mut input = Ndjson::new(path)?.type_field(&spec.type_field);
            if let Some(field) = &spec.payload_field {
                input = input.payload_field(field);
            }
            if let Some(topic) = &spec.topic {
                input = input.topic(topic)?;
            }
            Box::new(input)
        }
        InputSpec::Schedule(spec) => {
            let (event_type, topic) = (spec.event_type.clone(), spec.topic.clone());
            let payload = RawPayload::of(spec.payload.clone());
            let event = move |_| {
                let topic = topic.as_deref().unwrap_or(&event_type);
                Event::new(&event_type).topic(topic).raw_payload(payload.clone())
            };
            Box::new(Ticks::new(&spec.name, spec.schedule.clone(), event)?)
        }
        #[cfg(feature = "webhook")]
        InputSpec::Http(spec) => Box::new(Http::new(&spec.name, spec.options.clone())?),
    })
}

fn subscribing(bus: &Bus, spec: &SubscriptionSpec) -> On {
    let policy = spec.policy();
    let mut on = bus.on(spec.predicate()).named(&spec.name).retry(policy.retry).then(policy.then);
    if let Some(group) = &spec.group {
        on = on.group(group).lease(spec.lease).limit(spec.limit);
    }
    spec.layers.around(on)
}

fn opening(
    bus: &Bus,
    spec: &SubscriptionSpec,
    pipeline: Arc<Pipeline>,
    runs: &Arc<Counter>,
) -> Opening {
    let runs = Arc::clone(runs);
    subscribing(bus, spec).run(async move |delivery: Delivery| {
        runs.one();
        let report = pipeline.run_for(&delivery).await;
        report.into_result().map_err(|e: BoxError| e)
    })
}

/// Returns the app's groups, each with what this app wants of it.
fn groups(subscriptions: &[SubscriptionSpec]) -> Vec<(String, Interest)> {
    let mut groups: Vec<(String, Interest)> = Vec::new();
    for on in subscriptions {
        let Some(name) = &on.group else { continue };
        let interest = on.predicate().interest();
        match groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, union)) => {
                union.add(&interest);
            }
            None => groups.push((name.clone(), interest)),
        }
    }
    groups
}
