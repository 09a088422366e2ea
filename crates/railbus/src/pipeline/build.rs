//! Building a pipeline: steps in a line, checked before anything runs.

use super::{
    check::{Given, Wanted, check},
    def::{IntoStep, StepDef},
    observe::Observer,
};
use crate::{bus::Bus, error::Result, state::States, step::Kind};
use std::{fmt, sync::Arc};

/// Steps and the flow between them: one after another, until one does not succeed.
///
/// A clone is cheap and means the same pipeline; runs share nothing but the steps.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, Status, StepDef, store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let double = StepDef::fallible("double", |input| {
///     Ok(railbus::step::Flow::next(*input.get::<i32>("n")? * 2))
/// });
/// let pipeline = Pipeline::new("sums").input::<i32>("n").step(double).build()?;
/// let report = pipeline.run(store! { "n" => 4 }).await;
/// assert_eq!(report.status(), Status::Success);
/// assert_eq!(*report.store().get::<i32>("double")?, 8);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Pipeline(pub(super) Arc<Plan>);

/// What all runs of a pipeline share.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    pub(super) nodes: Vec<Node>,
    pub(super) wanted: Wanted,
    pub(super) states: Arc<States>,
    pub(super) lenient: bool,
    pub(super) observer: Option<Observer>,
}

/// A step and what comes after it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) def: StepDef,
    pub(super) next: Option<usize>,
}

impl Pipeline {
    /// Starts a pipeline; [`PipelineBuilder::build`] ends it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder {
            name: name.into(),
            steps: Vec::new(),
            inputs: Vec::new(),
            states: States::default(),
            lenient: false,
            bus: None,
            values: false,
        }
    }

    /// Returns the pipeline's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the names of the steps, in their order.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.nodes.iter().map(|node| node.def.name())
    }

    /// Returns the names of the values that a run must be given.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.0.wanted.inputs.iter().map(|given| given.name.as_str())
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({}: {})", self.name(), self.steps().collect::<Vec<_>>().join(" -> "))
    }
}

/// A pipeline in the making.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Pipeline, PipelineBuilder, State, StepDef, Status, store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// bus.on("step_*").run(|e: &Event| println!("{} {}", e.source(), e.event_type())).await?;
/// let builder: PipelineBuilder = Pipeline::new("fulfil")
///     .state(String::from("north"))
///     .input::<u32>("lines")
///     .step(StepDef::fallible("check", |_| Err("the shop is closed".into())))
///     .step(StepDef::value("ship", |_| "sent"))
///     .lenient()
///     .observe(&bus)
///     .observe_values();
/// let fulfil = builder.build()?;
/// assert_eq!(fulfil.name(), "fulfil");
/// assert_eq!(fulfil.steps().collect::<Vec<_>>(), ["check", "ship"]);
/// assert_eq!(fulfil.inputs().collect::<Vec<_>>(), ["lines"]);
/// let report = fulfil.run(store! { "lines" => 2_u32 }).await;
/// assert_eq!((report.status(), report.steps().len()), (Status::Exception, 2));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a pipeline in the making does nothing"]
pub struct PipelineBuilder {
    name: Arc<str>,
    steps: Vec<StepDef>,
    inputs: Vec<Given>,
    states: States,
    lenient: bool,
    bus: Option<Bus>,
    values: bool,
}

impl PipelineBuilder {
    /// Adds a step after those before it: a function with `#[step]`, a struct that is a step, or
    /// a [`StepDef`].
    pub fn step<M>(mut self, step: impl IntoStep<M>) -> Self {
        self.steps.push(step.into_step());
        self
    }

    /// Declares a value that a run is given. Where one is declared, all must be; where none is,
    /// whatever no step leaves for a later one becomes one.
    pub fn input<T: 'static>(mut self, name: impl Into<String>) -> Self {
        self.inputs.push(Given { name: name.into(), kind: Some(Kind::of::<T>()) });
        self
    }

    /// Gives the pipeline a value that steps can take as [`State<T>`](crate::State).
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.provide(state);
        self
    }

    /// Goes on after a failure or an exception, unless the step itself says otherwise (default: it
    /// ends the run). The report tells of it all the same.
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Tells the bus what happens in each run: `pipeline_start`, `step_start`, `step_end`,
    /// `step_error`, `step_retry`, `step_skipped`, `pipeline_end`, `pipeline_error`, in this
    /// process only.
    ///
    /// A step that is passed by is told of by `step_skipped` alone, one that runs and returns
    /// [`Flow::Skip`](crate::Flow::Skip) by `step_start` and then `step_skipped` in place of
    /// `step_end`. The events' sources are `pipeline` and `pipeline.step`. Nothing is built for what nobody
    /// subscribed to. The bus is not kept alive.
    pub fn observe(mut self, bus: &Bus) -> Self {
        self.bus = Some(bus.clone());
        self
    }

    /// Tells the bus also what goes into each step and what comes out of it (default: not).
    pub fn observe_values(mut self) -> Self {
        self.values = true;
        self
    }

    /// Ends the pipeline.
    ///
    /// # Errors
    /// Returns a config error if there is no step, a name comes twice or is none (ASCII letters,
    /// digits, `_` and `-`, a letter or `_` first), a step needs what nothing leaves or what is of
    /// another type, a binding is of a value that the step doesn't need, a value's name is empty, a
    /// state is missing, or a retry policy has a wrong key; an unsupported error if a step declares
    /// where it jumps to, which isn't available yet.
    pub fn build(self) -> Result<Pipeline> {
        let Self { name, steps, inputs, states, lenient, bus, values } = self;
        let wanted = check(&name, &steps, inputs, &states)?;
        let last = steps.len() - 1;
        let node = |(i, def)| Node { def, next: (i < last).then_some(i + 1) };
        let nodes: Vec<Node> = steps.into_iter().enumerate().map(node).collect();
        let names = nodes.iter().map(|node| node.def.name());
        let observer = bus.map(|bus| Observer::new(&bus, &name, names, values));
        let states = Arc::new(states);
        Ok(Pipeline(Arc::new(Plan { name, nodes, wanted, states, lenient, observer })))
    }
}
