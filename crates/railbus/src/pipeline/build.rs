//! Building a pipeline: steps and the flow between them, checked before anything runs.

use super::{
    body::Inherited,
    check::{Checked, check},
    compile::compile,
    into::IntoStep,
    names::check_kept,
    observe::Observer,
    parts::{Arm, Given, Pipeline, Plan, StepDef, deepest},
    resolve::resolve,
    steps::Steps,
};
use crate::{
    bus::Bus,
    error::{Error, ErrorKind, Result},
    journal::Journal,
    state::States,
    step::Kind,
    text_file::FLOWS,
};
use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// How often jumps may lead to one step in a run, unless the pipeline says otherwise.
const VISITS_MAX: u32 = 1_000;

impl Pipeline {
    /// Starts a pipeline; [`PipelineBuilder::build`] ends it.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder {
            name: name.into(),
            line: Vec::new(),
            inputs: Vec::new(),
            states: States::default(),
            lenient: false,
            bus: None,
            values: false,
            timeout: None,
            journal: None,
            lease: None,
            visits_max: VISITS_MAX,
            steps: Steps::default(),
        }
    }
}

/// A part of the line, as it was written.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all parts are steps")]
enum Part {
    Step(StepDef),
    /// A branch of the step before.
    Arm(Arm),
    Flow(String),
    /// A flow that is read from its file.
    File(PathBuf),
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
///
/// // Branches and what is piped:
/// let says = |name: &str| StepDef::value(name, |_| 1);
/// let show = StepDef::value("show", |_| ()).needs::<i32>("number");
/// let parted = Pipeline::new("parted")
///     .step(says("try")).on_failure(says("mend")).on_success(says("go")).on_label("x", says("y"))
///     .pipe(show)
///     .timeout(std::time::Duration::from_secs(60))
///     .visits_max(10)
///     .build()?;
/// assert_eq!(parted.steps().count(), 5);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a pipeline in the making does nothing"]
pub struct PipelineBuilder {
    name: Arc<str>,
    line: Vec<Part>,
    inputs: Vec<Given>,
    states: States,
    lenient: bool,
    bus: Option<Bus>,
    values: bool,
    timeout: Option<Duration>,
    journal: Option<Result<Arc<dyn Journal>>>,
    lease: Option<Duration>,
    visits_max: u32,
    steps: Steps,
}

impl PipelineBuilder {
    /// Adds a step after those before it: a function with `#[step]`, a struct that is a step, a
    /// [`StepDef`], a group, or another pipeline.
    pub fn step<M>(mut self, step: impl IntoStep<M>) -> Self {
        self.line.push(Part::Step(step.into_step()));
        self
    }

    /// Adds a step, and binds the value of the one before to its first input that nothing else
    /// fills, or to its only one. That several are filled, and none by that value, is an error when
    /// the pipeline is built.
    pub fn pipe<M>(self, step: impl IntoStep<M>) -> Self {
        self.step(step.into_step().piped())
    }

    /// Adds a branch to the step before, be it the last of a flow: what runs if it succeeds. The flow
    /// goes on behind it.
    pub fn on_success<M>(self, step: impl IntoStep<M>) -> Self {
        self.on_label("1", step)
    }

    /// Adds a branch to the step before: what runs if it fails, or an exception outlasts its tries.
    /// That is handled then, and ends nothing; the flow goes on behind the branch.
    pub fn on_failure<M>(self, step: impl IntoStep<M>) -> Self {
        self.on_label("0", step)
    }

    /// Adds a branch to the step before: what runs if that returns
    /// [`Flow::branch`](crate::Flow::branch) with this label, or jumps there.
    pub fn on_label<M>(mut self, label: impl Into<Arc<str>>, step: impl IntoStep<M>) -> Self {
        let chain = vec![step.into_step()];
        self.line.push(Part::Arm(Arm { label: label.into(), chain }));
        self
    }

    /// Gives the pipeline steps that its flow names, and what they are given to use.
    pub fn steps(mut self, steps: Steps) -> Self {
        self.states.add_all(steps.states());
        self.steps.extend(steps);
        self
    }

    /// Adds the steps of a flow that is text, after those before it; it names steps that
    /// [`PipelineBuilder::steps`] gave.
    ///
    /// ```text
    /// a -> b            b after a
    /// a |-> b           and the value of a is bound to the first input of b that nothing else fills
    /// a || b            side by side; binds tighter than arrows
    /// a * 3             up to three tries
    /// a(0 -> b, 1 -> c, late -> d) -> e    b if a fails, c if it succeeds, d by its label; e after each
    /// {a -> b} || c     braces or parentheses group
    /// {a || b}[any]     when the group succeeds: all, none_failed, any, not_all_failed,
    ///                   at_least(2), percent(50), majority
    /// # to the end of the line: a comment
    /// ```
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, Steps};
    ///
    /// let says = |name: &str| StepDef::value(name, |_| 1);
    /// let steps = Steps::new().add(says("validate")).add(says("charge")).add(says("refund"));
    /// let flow = Pipeline::new("fulfil").steps(steps.clone()).flow("validate -> charge(0 -> refund)");
    /// assert!(flow.build().is_ok());
    /// let error = Pipeline::new("fulfil").steps(steps).flow("validate -> chrage").build();
    /// assert_eq!(error.unwrap_err().advice(), Some("did you mean `charge`?"));
    /// ```
    pub fn flow(mut self, text: impl Into<String>) -> Self {
        self.line.push(Part::Flow(text.into()));
        self
    }

    /// Adds the steps of a flow as [`PipelineBuilder::flow`] does, from a file, by custom
    /// `NAME.flow`; it is read when the pipeline is built, up to 1 MiB of UTF-8.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, Steps};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("look.flow");
    /// std::fs::write(&path, "# looks twice\nlook -> again").unwrap();
    /// let steps = Steps::new().add(StepDef::value("look", |_| 1)).add(StepDef::value("again", |_| 2));
    /// let pipeline = Pipeline::new("look").steps(steps).flow_file(&path).build()?;
    /// assert_eq!(pipeline.steps().count(), 2);
    /// # Ok::<(), railbus::Error>(())
    /// ```
    pub fn flow_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.line.push(Part::File(path.into()));
        self
    }

    /// Returns the steps of the line, in the order they were written.
    fn whole_line(&mut self) -> Result<Vec<StepDef>> {
        let mut line = Vec::with_capacity(self.line.len());
        for part in std::mem::take(&mut self.line) {
            match part {
                Part::Step(step) => line.push(step),
                Part::Arm(arm) => {
                    let last = line.pop().ok_or_else(|| {
                        let why = "a branch has no step before";
                        let error = Error::new(ErrorKind::Config, "pipeline", why);
                        error.hint("add the step first, then its branches")
                    })?;
                    line.push(StepDef::branched(last, vec![arm]));
                }
                Part::Flow(text) => line.extend(resolve(&text, &self.steps)?),
                Part::File(path) => {
                    let text = FLOWS.read(&path)?;
                    let named = |e: Error| e.with("file", path.display());
                    line.extend(resolve(&text, &self.steps).map_err(named)?);
                }
            }
        }
        Ok(line)
    }

    /// Gives a run up that takes longer (default: as long as it likes), as
    /// [`Run::timeout`](super::Run::timeout) does.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Keeps its runs in the bus's journal, as [`Run::journal`](super::Run::journal) does, under an
    /// id of their own: `NAME:EVENT` for a run that an event caused, so that an event that comes
    /// again after its process died goes on where the run was, and waits while that is still held.
    /// One that did not succeed runs anew when the event is tried again, as `NAME:EVENT#2`. As a step
    /// of another pipeline it is kept with that, or not at all.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Pipeline, StepDef};
    ///
    /// let ship = Pipeline::new("ship").step(StepDef::value("label", |_| 1)).durable(&Bus::new());
    /// // A bus in memory keeps no runs.
    /// assert!(ship.build().is_err());
    /// ```
    pub fn durable(mut self, bus: &Bus) -> Self {
        self.journal = Some(bus.journal());
        self
    }

    /// Sets for how long a run that is kept is held without a sign of life, as
    /// [`Run::lease`](super::Run::lease) does (default 30 s).
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Pipeline};
    ///
    /// let kept = Pipeline::new("ship").durable(&Bus::new()).lease(std::time::Duration::from_secs(5));
    /// ```
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Sets how often jumps may lead to one step in a run (default: 1,000, at least 1), be it one for
    /// each item or of a repetition, each time; more is an exception of kind `loop` that shows the way
    /// round.
    pub fn visits_max(mut self, visits: u32) -> Self {
        self.visits_max = visits.max(1);
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
    /// subscribed to. The bus is not kept alive. `docs/lifecycle-events.md` has a JSON schema for
    /// the payload of each.
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
    /// digits, `_` and `-`, a letter or `_` first), a step needs what is not left before on every
    /// way to it, or what is of another type, a binding is of a value that the step doesn't need, a
    /// value's name is empty, members of a group leave a value of one name, a group
    /// can never come to its evaluation, steps are too deep in one another, a branch can't be
    /// reached or is there twice, a jump leads to no step of the pipeline or out of a group, a state
    /// is missing, a retry policy or an executor has a wrong key, or its runs are to be kept and a
    /// value is [`Opaque`](crate::step::Opaque).
    pub fn build(mut self) -> Result<Pipeline> {
        let line = self.whole_line();
        let line = line.map_err(|e| e.with("pipeline", self.name.escape_debug()))?;
        let Self {
            name,
            inputs,
            states,
            lenient,
            bus,
            values,
            timeout,
            visits_max,
            journal,
            lease,
            ..
        } = self;
        let journal = journal.transpose().map_err(|e| e.with("pipeline", name.escape_debug()))?;
        let states = Arc::new(states);
        let inherited = Inherited { states: &states, lenient, visits_max };
        let builds = |outer: &StepDef, inner: StepDef| inherited.build(&outer.name, inner);
        let depth = deepest(&line);
        let mut nodes =
            compile(line, &builds).map_err(|e| e.with("pipeline", name.escape_debug()))?;
        let Checked { wanted, leaves } = check(&name, &mut nodes, inputs, &states, lenient)?;
        let names = nodes.iter().map(|node| node.def.name());
        let observer = bus.map(|bus| Observer::new(&bus, &name, names, values));
        let shape = OnceLock::new();
        let plan = Plan {
            name,
            nodes,
            depth,
            wanted,
            leaves,
            states,
            lenient,
            timeout,
            visits_max,
            observer,
            journal,
            lease,
            shape,
        };
        if plan.journal.is_some() {
            check_kept(&plan)?;
        }
        Ok(Pipeline(Arc::new(plan)))
    }
}
