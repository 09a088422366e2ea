//! A step as a pipeline holds it.

use crate::{
    error::Error,
    executor::{Executor, IntoExecutor},
    executors::Blocking,
    retry::{IntoRetry, Retry},
    step::{Bindings, Bypass, Input, IntoBypass, IntoFlow, Ran, Signature, Step, StepResult},
};
use async_trait::async_trait;
use std::{any::Any, fmt, sync::Arc};

/// A step as a pipeline holds it: the work, its names, how often it is tried, where it runs, and
/// what ends the run.
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
    pub(super) step: Arc<dyn Step>,
    pub(super) signature: Arc<Signature>,
    pub(super) output: Arc<str>,
    pub(super) bindings: Arc<Bindings>,
    pub(super) retry: Option<Retry>,
    pub(super) executor: Option<Arc<dyn Executor>>,
    pub(super) stops: Stops,
    pub(super) bypass: Option<Asks>,
    // What building the pipeline will say.
    pub(super) problem: Option<Error>,
}

/// Asks whether a step is passed by, in place of the step itself.
#[derive(Clone)]
pub(super) struct Asks(Arc<Ask>);

type Ask = dyn Fn(&Input<'_>) -> StepResult<Bypass> + Send + Sync;

impl Asks {
    pub(super) fn ask(&self, input: &Input<'_>) -> StepResult<Bypass> {
        (self.0)(input)
    }
}

impl fmt::Debug for Asks {
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

impl StepDef {
    /// Holds a step under its own name; it runs once unless [`StepDef::retry`] says otherwise.
    pub fn of(step: impl Step) -> Self {
        Self::shared(Arc::new(step))
    }

    /// Holds a step under another name.
    pub fn new(name: impl Into<String>, step: Arc<dyn Step>) -> Self {
        Self::shared(step).named(name)
    }

    /// Makes a step of a closure that leaves what it returns.
    pub fn value<M: 'static, T: IntoFlow<M> + 'static>(
        name: impl Into<String>,
        work: impl Fn(Input<'_>) -> T + Send + Sync + 'static,
    ) -> Self {
        Self::of(Closure {
            name: name.into(),
            work: move |input: Input<'_>| Ok(work(input).into_flow()),
        })
    }

    /// Makes a step of a closure that may fail.
    pub fn fallible(
        name: impl Into<String>,
        work: impl Fn(Input<'_>) -> StepResult + Send + Sync + 'static,
    ) -> Self {
        Self::of(Closure { name: name.into(), work })
    }

    fn shared(step: Arc<dyn Step>) -> Self {
        let signature = step.signature();
        let def = Self {
            name: signature.name().into(),
            output: signature.output_name().into(),
            signature: Arc::new(signature),
            step,
            bindings: Arc::default(),
            retry: None,
            executor: None,
            stops: Stops::default(),
            bypass: None,
            problem: None,
        };
        let held = def.step.held(Box::new(def.clone()));
        held.downcast().map_or(def, |held| *held)
    }

    /// Changes what [`Step::held`] got, for `#[step(..)]` alone.
    #[doc(hidden)]
    pub fn held(def: Box<dyn Any>, change: impl FnOnce(Self) -> Self) -> Box<dyn Any> {
        match def.downcast::<Self>() {
            Ok(def) => Box::new(change(*def)),
            Err(other) => other,
        }
    }

    /// Adds a value that it needs as a `T`, for a closure, which can't say so itself: it is checked
    /// when the pipeline is built, and can be bound.
    #[must_use]
    pub fn needs<T: 'static>(mut self, name: impl Into<String>) -> Self {
        self.signature = Arc::new(Arc::unwrap_or_clone(self.signature).needs::<T>(name));
        self
    }

    /// Says that its value is a `T`, for those that need it (default: as its signature says, or
    /// any).
    #[must_use]
    pub fn leaves<T: 'static>(mut self) -> Self {
        let name = self.signature.output_name().to_owned();
        self.signature = Arc::new(Arc::unwrap_or_clone(self.signature).output::<T>(name));
        self
    }

    /// Names it; its value goes by that name too, unless it has a name of its own.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        let name: Arc<str> = name.into().into();
        if self.output == self.name {
            self.output = Arc::clone(&name);
        }
        self.name = name;
        self
    }

    /// Sets the name its value is stored under (default: the one of its signature, else its own).
    #[must_use]
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.output = name.into().into();
        self
    }

    /// Takes what the step calls `local` from what the store calls `key`; if `local` is the name
    /// of its value, stores that under `key`.
    #[must_use]
    pub fn bind(mut self, local: impl Into<String>, key: impl Into<String>) -> Self {
        let (local, key) = (local.into(), key.into());
        if self.signature.output_name() == local && !self.signature.has_need(&local) {
            self.output = key.into();
        } else {
            Arc::make_mut(&mut self.bindings).bind(local, key);
        }
        self
    }

    /// Sets how often an exception is tried again, by a [`Retry`] or a map; a failure never is.
    #[must_use]
    pub fn retry(mut self, retry: impl IntoRetry) -> Self {
        match retry.into_retry() {
            Ok(retry) => self.retry = Some(retry),
            Err(error) => self.problem = self.problem.or(Some(error)),
        }
        self
    }

    /// Says where it runs (default: in the task that runs the pipeline): one of
    /// [`executors`](crate::executors), one of the program's own, or a map.
    #[must_use]
    pub fn executor(mut self, executor: impl IntoExecutor) -> Self {
        match executor.into_executor() {
            Ok(executor) => self.executor = executor,
            Err(error) => self.problem = self.problem.or(Some(error)),
        }
        self
    }

    /// Runs it on the runtime's threads for blocking work.
    #[must_use]
    pub fn blocking(self) -> Self {
        self.executor(Blocking)
    }

    /// Asks before its first try whether it is passed by: a `bool`, what is passed on in place of
    /// its value as an `Option`, a [`Bypass`], or a `Result` of one. Asked instead of the step's
    /// own [`Step::can_bypass`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, store};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let slow = StepDef::value("slow", |_| 7).bypass(|input| input.store().has("known"));
    /// let report = Pipeline::new("p").step(slow).build()?.run(store! { "known" => 7 }).await;
    /// assert_eq!(report.steps()[0].status.name(), "skipped");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn bypass<B: IntoBypass>(
        mut self,
        asks: impl Fn(&Input<'_>) -> B + Send + Sync + 'static,
    ) -> Self {
        self.bypass = Some(Asks(Arc::new(move |input| asks(input).into_bypass())));
        self
    }

    /// Sets whether its success ends the run (default: not).
    #[must_use]
    pub fn stop_on_success(mut self, stop: bool) -> Self {
        self.stops.success = Some(stop);
        self
    }

    /// Sets whether its failure ends the run (default: as the pipeline says, which is yes).
    #[must_use]
    pub fn stop_on_error(mut self, stop: bool) -> Self {
        self.stops.error = Some(stop);
        self
    }

    /// Sets whether its exception ends the run (default: as the pipeline says, which is yes).
    #[must_use]
    pub fn stop_on_exception(mut self, stop: bool) -> Self {
        self.stops.exception = Some(stop);
        self
    }

    /// Returns the step's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A step made of a closure.
struct Closure<F> {
    name: String,
    work: F,
}

#[async_trait]
impl<F: Fn(Input<'_>) -> StepResult + Send + Sync + 'static> Step for Closure<F> {
    fn signature(&self) -> Signature {
        Signature::new(self.name.clone())
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        (self.work)(input)
    }

    fn call<'a>(&'a self, input: Input<'a>) -> Ran<'a> {
        Ran::Now((self.work)(input))
    }
}

/// What can be a step of a pipeline: a [`StepDef`], a function with `#[step]`, or a struct that is
/// a [`Step`].
///
/// # Examples
/// ```
/// use railbus::{IntoStep, Pipeline, StepDef, json};
///
/// /// A function that makes a step is as good as the step.
/// fn ping() -> StepDef {
///     StepDef::value("ping", |_| "pong")
/// }
///
/// let again = ping.named("again").retry(json!({"max_attempts": 2}));
/// let pipeline = Pipeline::new("p").step(ping).step(again).build()?;
/// assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["ping", "again"]);
/// # Ok::<(), railbus::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a step",
    note = "a step is a function or an impl block with `#[step]`, a struct that implements Step, or a StepDef"
)]
pub trait IntoStep<Marker>: Sized {
    /// Makes it a step as pipelines hold them.
    fn into_step(self) -> StepDef;

    /// As [`StepDef::named`].
    fn named(self, name: impl Into<String>) -> StepDef {
        self.into_step().named(name)
    }

    /// As [`StepDef::bind`].
    fn bind(self, local: impl Into<String>, key: impl Into<String>) -> StepDef {
        self.into_step().bind(local, key)
    }

    /// As [`StepDef::retry`].
    fn retry(self, retry: impl IntoRetry) -> StepDef {
        self.into_step().retry(retry)
    }

    /// As [`StepDef::executor`].
    fn executor(self, executor: impl IntoExecutor) -> StepDef {
        self.into_step().executor(executor)
    }

    /// As [`StepDef::blocking`].
    fn blocking(self) -> StepDef {
        self.into_step().blocking()
    }

    /// As [`StepDef::bypass`].
    fn bypass<B: IntoBypass>(
        self,
        asks: impl Fn(&Input<'_>) -> B + Send + Sync + 'static,
    ) -> StepDef {
        self.into_step().bypass(asks)
    }

    /// As [`StepDef::output`].
    fn output(self, name: impl Into<String>) -> StepDef {
        self.into_step().output(name)
    }

    /// As [`StepDef::stop_on_success`].
    fn stop_on_success(self, stop: bool) -> StepDef {
        self.into_step().stop_on_success(stop)
    }

    /// As [`StepDef::stop_on_error`].
    fn stop_on_error(self, stop: bool) -> StepDef {
        self.into_step().stop_on_error(stop)
    }

    /// As [`StepDef::stop_on_exception`].
    fn stop_on_exception(self, stop: bool) -> StepDef {
        self.into_step().stop_on_exception(stop)
    }
}

/// Marks steps as pipelines hold them.
#[derive(Debug)]
pub struct IsDef;
/// Marks functions that make a step.
#[derive(Debug)]
pub struct IsMaker;
/// Marks structs that are steps.
#[derive(Debug)]
pub struct IsStep;

impl IntoStep<IsDef> for StepDef {
    fn into_step(self) -> StepDef {
        self
    }
}

impl<F: FnOnce() -> StepDef> IntoStep<IsMaker> for F {
    fn into_step(self) -> StepDef {
        self()
    }
}

impl<S: Step> IntoStep<IsStep> for S {
    fn into_step(self) -> StepDef {
        StepDef::of(self)
    }
}
