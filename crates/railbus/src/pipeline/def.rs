//! A step as a pipeline holds it: how it is made, and what can be said of it.

use super::parts::{Asks, Body, DEPTH_MAX, Fitted, How, Leaves, StepDef, Stops, Sub, Work};
use crate::{
    executor::IntoExecutor,
    executors::Blocking,
    retry::IntoRetry,
    step::{Input, IntoBypass, IntoCondition, IntoFlow, Kind, Ran, Signature, Step, StepResult},
};
use async_trait::async_trait;
use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What names may be.
pub(super) const NAMES: &str = "use ASCII letters, digits, `_` and `-`, a letter or `_` first";

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
        let def = Self::of(Closure {
            name: name.into(),
            work: move |input: Input<'_>| Ok(work(input).into_flow()),
        });
        // So that it is refused where it would be encoded.
        if Kind::of::<T>().is_opaque() { def.leaves::<T>() } else { def }
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
            output: signature.output_name().into(),
            ..Self::grouped(signature.name().into(), Work::Step(step))
        };
        let def = Self { signature: Arc::new(signature), ..def };
        let Work::Step(step) = &def.work else { return def };
        let held = step.held(Box::new(def.clone()));
        held.downcast().map_or(def, |held| *held)
    }

    /// Holds what a step does, with nothing said of it. What is too deep to be gone into is let go
    /// of, for as long as that can be done.
    pub(super) fn grouped(name: Arc<str>, work: Work) -> Self {
        let depth = work.depth();
        if depth > DEPTH_MAX {
            return Self::grouped("{..}".into(), Work::Chain(Vec::new())).too_deep();
        }
        Self {
            output: Arc::clone(&name),
            signature: Arc::new(Signature::new(&*name).plain()),
            name,
            work,
            is_piped: false,
            bindings: Arc::default(),
            retry: None,
            executor: None,
            timeout: None,
            stops: Stops::default(),
            bypass: None,
            condition: None,
            once: None,
            arms: Vec::new(),
            depth,
            problem: None,
        }
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
        if name.starts_with('{') {
            // So begin the names that groups have by themselves.
            let why = format!("`{}` is not a name", name.escape_debug());
            return self.refused(why, NAMES);
        }
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

    /// Sets how often an exception is tried again, by a [`Retry`](crate::Retry) or a map; a failure never is.
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
    /// its value as an `Option`, a [`Bypass`](crate::step::Bypass), or a `Result` of one. Asked instead of the step's
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

    /// Runs it only if this says so: a `bool`, or a `Result` of one; else the flow goes on as if it
    /// were not there. Asked after whether it is passed by, before its first try.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, store};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let gift = StepDef::value("gift", |_| "a pen");
    /// let gift = gift.only_if(|input| Ok::<_, railbus::StepError>(*input.get::<i64>("total")? > 100));
    /// let pipeline = Pipeline::new("p").step(gift).build()?;
    /// assert!(!pipeline.run(store! { "total" => 7 }).await.store().has("gift"));
    /// assert!(pipeline.run(store! { "total" => 700 }).await.store().has("gift"));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn only_if<C: IntoCondition>(
        mut self,
        asks: impl Fn(&Input<'_>) -> C + Send + Sync + 'static,
    ) -> Self {
        self.condition = Some(Asks(Arc::new(move |input| asks(input).into_condition())));
        self
    }

    /// Runs it in the first run that comes to it; the runs after that get the value it left then,
    /// until [`Pipeline::refit`](super::Pipeline::refit). A try that did not succeed leaves it to
    /// the next run.
    ///
    /// So a model is fitted once and then applied: `.step(fit.once()).step(apply)`.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, store};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let fit = StepDef::fallible("mean", |input| {
    ///     let data = input.get::<Vec<f64>>("data")?;
    ///     Ok(railbus::Flow::next(data.iter().sum::<f64>() / data.len() as f64))
    /// });
    /// let pipeline = Pipeline::new("scale").step(fit.once()).build()?;
    /// let report = pipeline.run(store! { "data" => vec![1.0, 2.0, 3.0] }).await;
    /// assert_eq!(*report.get::<f64>("mean")?, 2.0);
    /// let report = pipeline.run(store! { "data" => vec![4.0] }).await;
    /// assert_eq!(*report.get::<f64>("mean")?, 2.0);
    /// pipeline.refit();
    /// let report = pipeline.run(store! { "data" => vec![4.0] }).await;
    /// assert_eq!(*report.get::<f64>("mean")?, 4.0);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn once(mut self) -> Self {
        self.once = Some(Arc::default());
        self
    }

    /// Sets how long a try may take (default: as long as it likes); more is an exception of kind
    /// `timeout`, which a retry policy may cover.
    ///
    /// A step that awaits is dropped there, one in a process is killed, one on a thread is told by
    /// [`Input::is_cancelled`] and not waited for. A sync step without an executor can't be cut
    /// off, since it blocks whoever looks at the clock: it is late once it is through.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, executors::Blocking, step, store};
    /// use std::{future::pending, time::Duration};
    ///
    /// #[step]
    /// async fn hang() {
    ///     pending().await
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let hang = hang().timeout(Duration::from_millis(1));
    /// let report = Pipeline::new("p").step(hang).build()?.run(store! {}).await;
    /// assert_eq!(report.error().unwrap().kind(), "timeout");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Binds the value of the step before it to its first input that is not bound and that nothing
    /// else fills, as `|->` does in text.
    #[must_use]
    pub fn piped(mut self) -> Self {
        self.is_piped = true;
        self
    }

    /// Sets whether its success ends the run (default: not), as [`Flow::Stop`](crate::Flow::Stop)
    /// does.
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

    /// Returns what it left, if it is to run once and has.
    pub(super) fn fitted(&self) -> Arc<Fitted> {
        let fitted = |cell: &Mutex<Arc<Fitted>>| {
            Arc::clone(&cell.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.once.as_deref().map(fitted).unwrap_or_default()
    }

    /// Forgets what it left, and what its own steps did.
    pub(super) fn refit(&self) {
        if let Work::Sub(Sub { body: Body::Built(inner), .. }) = &self.work {
            inner.refit();
        }
        if let Some(cell) = &self.once {
            *cell.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        }
    }

    /// Names what is said of it and does not fit a group.
    pub(super) fn misplaced(&self) -> Option<&'static str> {
        if !matches!(self.work, Work::Parallel(_)) {
            let is_sub = matches!(self.work, Work::Sub(_));
            return (is_sub && self.executor.is_some()).then_some("an executor");
        }
        let says = [
            (self.retry.is_some(), "a retry policy"),
            (self.executor.is_some(), "an executor"),
            (self.timeout.is_some(), "a timeout"),
            (self.bypass.is_some(), "a bypass"),
            (self.condition.is_some(), "a condition"),
            (self.once.is_some(), "`once`"),
        ];
        says.into_iter().find_map(|(says, what)| says.then_some(what))
    }

    /// Tells whether it may take a branch or jump.
    pub(super) fn may_steer(&self) -> bool {
        self.signature.steers()
    }

    /// Returns what it leaves by names of its own, if it has values of its own.
    pub(super) fn sub_leaves(&self) -> Option<&[Leaves]> {
        match &self.work {
            Work::Sub(Sub { how: How::Nested | How::Repeat(_), body: Body::Built(built) }) => {
                Some(&built.0.leaves)
            }
            _ => None,
        }
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
