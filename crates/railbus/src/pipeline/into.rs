//! What can be a step of a pipeline.

use super::parts::{Arm, Body, How, Pipeline, StepDef, Sub, Work};
use crate::{
    executor::IntoExecutor,
    retry::IntoRetry,
    step::{Input, IntoBypass, IntoCondition, Step},
};
use std::{sync::Arc, time::Duration};

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

    /// As [`StepDef::only_if`].
    fn only_if<C: IntoCondition>(
        self,
        asks: impl Fn(&Input<'_>) -> C + Send + Sync + 'static,
    ) -> StepDef {
        self.into_step().only_if(asks)
    }

    /// As [`StepDef::once`].
    fn once(self) -> StepDef {
        self.into_step().once()
    }

    /// As [`StepDef::timeout`].
    fn timeout(self, limit: Duration) -> StepDef {
        self.into_step().timeout(limit)
    }

    /// As [`StepDef::piped`].
    fn piped(self) -> StepDef {
        self.into_step().piped()
    }

    /// As [`StepDef::output`].
    fn output(self, name: impl Into<String>) -> StepDef {
        self.into_step().output(name)
    }

    /// As [`StepDef::on_success`].
    fn on_success<N>(self, step: impl IntoStep<N>) -> StepDef {
        self.into_step().on_success(step)
    }

    /// As [`StepDef::on_failure`].
    fn on_failure<N>(self, step: impl IntoStep<N>) -> StepDef {
        self.into_step().on_failure(step)
    }

    /// As [`StepDef::on_label`].
    fn on_label<N>(self, label: impl Into<Arc<str>>, step: impl IntoStep<N>) -> StepDef {
        self.into_step().on_label(label, step)
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

impl StepDef {
    /// Adds a branch: what runs after it if it succeeds, as
    /// [`PipelineBuilder::on_success`](super::PipelineBuilder::on_success) does.
    ///
    /// # Examples
    /// ```
    /// use railbus::{IntoStep, Pipeline, StepDef, chain};
    ///
    /// let says = |name: &str| StepDef::value(name, |_| 1);
    /// let tell = says("mail").on_failure(says("sms").on_failure(says("call")));
    /// let pipeline = Pipeline::new("p").step(says("a")).on_success(chain((tell, says("log"))));
    /// assert_eq!(pipeline.build()?.steps().collect::<Vec<_>>(), ["a", "mail", "sms", "call", "log"]);
    /// # Ok::<(), railbus::Error>(())
    /// ```
    #[must_use]
    pub fn on_success<M>(self, step: impl IntoStep<M>) -> Self {
        self.on_label("1", step)
    }

    /// Adds a branch: what runs after it if it does not succeed, as
    /// [`PipelineBuilder::on_failure`](super::PipelineBuilder::on_failure) does.
    #[must_use]
    pub fn on_failure<M>(self, step: impl IntoStep<M>) -> Self {
        self.on_label("0", step)
    }

    /// Adds a branch by its label, as
    /// [`PipelineBuilder::on_label`](super::PipelineBuilder::on_label) does.
    #[must_use]
    pub fn on_label<M>(self, label: impl Into<Arc<str>>, step: impl IntoStep<M>) -> Self {
        self.branched(vec![Arm { label: label.into(), chain: vec![step.into_step()] }])
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
/// Marks pipelines that are steps of others.
#[derive(Debug)]
pub struct IsNested;

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

impl IntoStep<IsNested> for Pipeline {
    /// Makes it a step of another pipeline: it runs with values of its own, and leaves what its
    /// steps left.
    fn into_step(self) -> StepDef {
        let name = Arc::clone(&self.0.name);
        let sub = Sub { how: How::Nested, body: Body::Built(self) };
        StepDef::grouped(name, Work::Sub(sub))
    }
}

/// What can be several steps: an array, a `Vec` or a tuple of what can be a step.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, pipeline::chain, store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let one = |name: &str| StepDef::value(name, |_| 1);
/// let both = chain((one("a"), one("b")));
/// let pipeline = Pipeline::new("p").step(both).step(chain([one("c")])).build()?;
/// assert_eq!(pipeline.steps().collect::<Vec<_>>(), ["a", "b", "c"]);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` are no steps",
    note = "write an array of steps of one type, or a tuple of up to eight: (ship, notify)"
)]
pub trait IntoSteps<Marker> {
    /// Makes them steps as pipelines hold them.
    fn into_steps(self) -> Vec<StepDef>;
}

impl<M, S: IntoStep<M>, const N: usize> IntoSteps<M> for [S; N] {
    fn into_steps(self) -> Vec<StepDef> {
        self.into_iter().map(IntoStep::into_step).collect()
    }
}

impl<M, S: IntoStep<M>> IntoSteps<M> for Vec<S> {
    fn into_steps(self) -> Vec<StepDef> {
        self.into_iter().map(IntoStep::into_step).collect()
    }
}

macro_rules! tuples {
    ($($step:ident $marker:ident),+) => {
        #[diagnostic::do_not_recommend]
        impl<$($marker, $step: IntoStep<$marker>),+> IntoSteps<($($marker,)+)> for ($($step,)+) {
            #[allow(non_snake_case)]
            fn into_steps(self) -> Vec<StepDef> {
                let ($($step,)+) = self;
                vec![$($step.into_step()),+]
            }
        }
    };
}

tuples!(A MA);
tuples!(A MA, B MB);
tuples!(A MA, B MB, C MC);
tuples!(A MA, B MB, C MC, D MD);
tuples!(A MA, B MB, C MC, D MD, E ME);
tuples!(A MA, B MB, C MC, D MD, E ME, F MF);
tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG);
tuples!(A MA, B MB, C MC, D MD, E ME, F MF, G MG, H MH);
