//! What pipelines are made of: steps, groups of steps, and the plan that runs follow.

use super::{evaluate::Evaluation, observe::Observer};
use crate::{
    cancel::Cancel,
    error::{Error, ErrorKind},
    executor::Executor,
    journal::Journal,
    payload::RawPayload,
    retry::Retry,
    state::States,
    step::{Bindings, Bypass, Input, Kind, Signature, Step, StepResult},
};
use std::{
    fmt,
    ops::Range,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use tokio::sync::OnceCell;

/// A step as a pipeline holds it: the work, its names, how often it is tried, where it runs, what
/// ends the run, and which branches follow.
///
/// # Examples
/// ```
/// use railbus::{IntoStep, Pipeline, Retry, StepDef, StepResult, executors::Blocking, store};
/// use railbus::step::{Flow, Input, Signature, Step};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// struct Sum;
///
/// #[async_trait::async_trait]
/// impl Step for Sum {
///     fn signature(&self) -> Signature {
///         Signature::new("sum").needs::<Vec<i64>>("data")
///     }
///
///     async fn run(&self, input: Input<'_>) -> StepResult {
///         Ok(Flow::next(input.get::<Vec<i64>>("data")?.iter().sum::<i64>()))
///     }
/// }
///
/// let load = StepDef::value("load", |_| vec![1_i64, 2, 3]).output("raw_data").blocking();
/// let load = load.leaves::<Vec<i64>>();
/// let sum = StepDef::of(Sum).bind("data", "raw_data").retry(Retry::attempts(3));
/// let again = Sum.named("again").bind("data", "raw_data").executor(Blocking);
/// let last = again.stop_on_success(true).stop_on_error(true).stop_on_exception(true);
/// assert_eq!(last.name(), "again");
/// let pipeline = Pipeline::new("sums").step(load).step(sum).step(last).build()?;
/// let report = pipeline.run(store! {}).await;
/// assert_eq!((*report.get::<i64>("sum")?, *report.get::<i64>("again")?), (6, 6));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct StepDef {
    pub(super) name: Arc<str>,
    pub(super) work: Work,
    pub(super) signature: Arc<Signature>,
    pub(super) output: Arc<str>,
    // What the value before it is bound to, as `|->` does.
    pub(super) is_piped: bool,
    pub(super) bindings: Arc<Bindings>,
    pub(super) retry: Option<Retry>,
    pub(super) executor: Option<Arc<dyn Executor>>,
    pub(super) timeout: Option<Duration>,
    pub(super) stops: Stops,
    pub(super) bypass: Option<Asks<Bypass>>,
    pub(super) condition: Option<Asks<bool>>,
    // Its value, once it has one, if it is to run once only.
    pub(super) once: Option<Arc<Mutex<Arc<Fitted>>>>,
    pub(super) arms: Vec<Arm>,
    // How deep the steps in it and in its branches are in one another.
    pub(super) depth: usize,
    // What building the pipeline will say.
    pub(super) problem: Option<Error>,
}

/// How deep steps may be in one another: far more than anybody reads, and few enough that half of a
/// thread's stack (2 MiB) has room for each going into the next, without optimisation.
pub(super) const DEPTH_MAX: usize = 192;

/// What groups, and what steps with values of their own count for, where a branch or a line counts
/// for one: a run needs so much more room for them.
pub(super) const GROUP_DEPTH: usize = 2;
pub(super) const SUB_DEPTH: usize = 8;

/// What a step left that runs once.
pub(super) type Fitted = OnceCell<Kept>;

/// The value of a step, and what its own steps left, by their names for it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) value: Option<RawPayload>,
    pub(super) left: Vec<(Arc<str>, RawPayload)>,
}

/// What a step does.
#[derive(Clone)]
pub(super) enum Work {
    /// The work of one step.
    Step(Arc<dyn Step>),
    /// Steps one after another, as if they stood where it stands.
    Chain(Vec<StepDef>),
    /// Steps side by side.
    Parallel(Together),
    /// Steps with values of their own.
    Sub(Sub),
}

/// Steps side by side: how they are judged together.
#[derive(Clone, Debug, Default)]
pub(super) struct Together {
    pub(super) members: Vec<StepDef>,
    pub(super) evaluation: Evaluation,
    pub(super) is_fail_fast: bool,
}

/// Steps that run apart from the rest, with values of their own.
#[derive(Clone, Debug)]
pub(super) struct Sub {
    pub(super) how: How,
    pub(super) body: Body,
}

/// Steps before and after they are built.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Def(Box<StepDef>),
    Built(Pipeline),
}

/// How often steps apart run, and with what.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// Once.
    Nested,
    /// For each item of a collection.
    Each(Each),
    /// Again and again.
    Repeat(Repeat),
}

/// For each item of a collection.
#[derive(Clone, Debug)]
pub(super) struct Each {
    pub(super) items: String,
    // The name of an item inside; none: the first input that is not bound.
    pub(super) item: Option<String>,
    pub(super) at_once: Option<usize>,
    pub(super) evaluation: Evaluation,
    pub(super) is_fail_fast: bool,
    pub(super) keeps: bool,
}

/// Again and again.
#[derive(Clone, Debug)]
pub(super) struct Repeat {
    pub(super) times: u32,
    // Whether that many are the end, and not too many.
    pub(super) is_bounded: bool,
    pub(super) goes_on: Option<Asks<bool>>,
    pub(super) until: Option<Asks<bool>>,
    pub(super) is_fresh: bool,
}

/// What comes after a step in one case.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    pub(super) label: Arc<str>,
    pub(super) chain: Vec<StepDef>,
}

/// Asks the program something about a step that is about to run.
pub(super) struct Asks<T>(pub(super) Arc<Ask<T>>);

type Ask<T> = dyn Fn(&Input<'_>) -> StepResult<T> + Send + Sync;

impl<T> Asks<T> {
    pub(super) fn ask(&self, input: &Input<'_>) -> StepResult<T> {
        (self.0)(input)
    }
}

impl<T> Clone for Asks<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Asks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asks")
    }
}

/// What ends a run, where a step says so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stops {
    pub(super) success: Option<bool>,
    pub(super) error: Option<bool>,
    pub(super) exception: Option<bool>,
}

impl Work {
    /// Returns how deep the steps in it are in one another.
    pub(super) fn depth(&self) -> usize {
        match self {
            Self::Step(_) => 0,
            Self::Chain(steps) => deepest(steps) + 1,
            Self::Parallel(together) => deepest(&together.members) + GROUP_DEPTH,
            Self::Sub(Sub { body: Body::Def(def), .. }) => def.depth + SUB_DEPTH,
            Self::Sub(Sub { body: Body::Built(built), .. }) => built.0.depth + SUB_DEPTH,
        }
    }
}

impl StepDef {
    /// Adds branches.
    pub(super) fn branched(mut self, arms: Vec<Arm>) -> Self {
        let inside = arms.iter().map(|arm| deepest(&arm.chain) + 1).max().unwrap_or(0);
        if inside > DEPTH_MAX {
            return self.too_deep();
        }
        self.depth = self.depth.max(inside);
        self.arms.extend(arms);
        self
    }

    /// Refuses it, and whatever it will be a part of.
    pub(super) fn too_deep(mut self) -> Self {
        self.depth = DEPTH_MAX;
        let (groups, subs) = (DEPTH_MAX / GROUP_DEPTH, DEPTH_MAX / SUB_DEPTH);
        let why = format!(
            "steps are too deep in one another: there is room for {DEPTH_MAX} branches, {groups} \
             groups, or {subs} pipelines, repetitions and steps for each item"
        );
        self.refused(why, "put steps one after another")
    }

    /// Notes what building the pipeline will say, unless it has something to say already.
    pub(super) fn refused(mut self, why: impl Into<String>, hint: impl Into<String>) -> Self {
        let error = || Error::new(ErrorKind::Config, "pipeline", why.into()).hint(hint.into());
        self.problem = self.problem.take().or_else(|| Some(error()));
        self
    }
}

/// Returns how deep the deepest of some steps is.
pub(super) fn deepest(steps: &[StepDef]) -> usize {
    steps.iter().map(|step| step.depth).max().unwrap_or(0)
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => step.fmt(f),
            Self::Chain(steps) => f.debug_tuple("Chain").field(steps).finish(),
            Self::Parallel(together) => together.fmt(f),
            Self::Sub(sub) => sub.fmt(f),
        }
    }
}

/// Steps and the flow between them, checked: what a run follows.
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
    // The steps of the main line, of branches and of groups, in the order they were written.
    pub(super) nodes: Vec<Node>,
    // How deep they were in one another.
    pub(super) depth: usize,
    pub(super) wanted: Wanted,
    // What its steps may leave, with types where they are known.
    pub(super) leaves: Vec<Leaves>,
    pub(super) states: Arc<States>,
    pub(super) lenient: bool,
    pub(super) timeout: Option<Duration>,
    // How often a run may come to one step.
    pub(super) visits_max: u32,
    pub(super) observer: Option<Observer>,
    // Where its runs are kept, and for how long each is held without a sign of life.
    pub(super) journal: Option<Arc<dyn Journal>>,
    pub(super) lease: Option<Duration>,
    pub(super) shape: OnceLock<Arc<str>>,
}

/// A step, and what comes after it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) def: StepDef,
    pub(super) next: Option<usize>,
    pub(super) arms: Vec<Way>,
    // The steps it may jump to, in the order of its signature.
    pub(super) jumps: Vec<usize>,
    // Where each member of a group begins.
    pub(super) members: Vec<Range<usize>>,
    // The member of a group that it belongs to, by the member's first step; none: of the line.
    pub(super) within: Option<usize>,
    // Whether its value is bound to what follows, be it that of a failure.
    pub(super) is_told: bool,
    // Which of its inputs takes what comes, where only the run knows from which step.
    pub(super) takes: Option<String>,
    // Whether that is what the step before leaves, and not only what a jump brings.
    pub(super) takes_last: bool,
}

/// A branch: from the label to the step where it begins.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) label: Arc<str>,
    pub(super) to: usize,
}

/// What a pipeline is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// What it must be given.
    pub(super) inputs: Vec<Given>,
    /// What steps take if it is given, by name.
    pub(super) optional: Vec<String>,
}

/// A value that must be there before the first step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) kind: Option<Kind>,
}

/// A value that a pipeline's steps may leave.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaves {
    pub(super) name: Arc<str>,
    pub(super) kind: Option<Kind>,
    // Whether it is there after every run that goes to its end.
    pub(super) is_sure: bool,
}

/// What bounds a run from outside, or a part of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) cancel: Option<Cancel>,
    pub(super) deadline: Option<tokio::time::Instant>,
}

impl Plan {
    /// Returns the position of the step of that name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| *node.def.name == *name && node.is_named())
    }
}

impl Node {
    /// Tells whether it goes by its name, in reports and for jumps: a group without a name of its
    /// own does not.
    pub(super) fn is_named(&self) -> bool {
        !matches!(self.def.work, Work::Parallel(_)) || !self.def.name.starts_with('{')
    }
}
