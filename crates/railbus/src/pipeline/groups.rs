//! Groups of steps as programs write them: side by side, for each item, again and again.

use super::{
    evaluate::Evaluation,
    into::{IntoStep, IntoSteps},
    parts::{Asks, Body, Each, How, Repeat, StepDef, Sub, Together, Work},
};
use crate::step::{Input, IntoCondition};
use std::sync::Arc;

/// How often a step repeats if nothing else is said and it only ends by a condition.
const TIMES_MAX: u32 = 1_000;

/// Marks groups.
#[derive(Debug)]
pub struct IsGroup;

/// Makes steps one after another one step: a member of a group, or a branch.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, chain, parallel};
///
/// let says = |name: &str| StepDef::value(name, |_| 1);
/// let pipeline = Pipeline::new("p").step(parallel((chain((says("a"), says("b"))), says("c"))));
/// assert_eq!(pipeline.build()?.steps().collect::<Vec<_>>(), ["a", "b", "c"]);
/// # Ok::<(), railbus::Error>(())
/// ```
pub fn chain<M>(steps: impl IntoSteps<M>) -> StepDef {
    StepDef::chain(steps.into_steps())
}

/// Runs steps side by side, each with the values that were there before; what they leave is put
/// together in their order.
///
/// Async steps run at once in the task of the run, those with executors wherever these run them;
/// a sync step without one holds up the others. The group ends when all have; it succeeds or fails
/// as its [`Evaluation`] says, all of them unless told otherwise, and whether it ends the run is
/// decided then. Its value, if that is piped or it has a name, is the list of theirs, with `null`
/// for a member without one.
///
/// # Examples
/// ```
/// use railbus::{IntoStep, Pipeline, Status, StepDef, pipeline::{Evaluation, Parallel, parallel}, store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let mail = StepDef::value("mail", |_| "sent");
/// let sms = StepDef::fallible("sms", |_| Err(railbus::Failure::new("no number").into()));
/// let group: Parallel = parallel((mail, sms)).evaluate(Evaluation::Any).fail_fast();
/// let report = Pipeline::new("tell").step(group).build()?.run(store! {}).await;
/// assert_eq!(report.status(), Status::Success);
/// assert_eq!(report.step("sms").unwrap().status.name(), "failure");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn parallel<M>(steps: impl IntoSteps<M>) -> Parallel {
    Parallel(Together { members: steps.into_steps(), ..Together::default() })
}

/// Steps side by side: see [`parallel`].
#[derive(Clone, Debug)]
#[must_use = "a group does nothing until it is a step of a pipeline"]
pub struct Parallel(Together);

impl Parallel {
    /// Sets when the group as a whole succeeds (default: [`Evaluation::All`]).
    pub fn evaluate(mut self, evaluation: Evaluation) -> Self {
        self.0.evaluation = evaluation;
        self
    }

    /// Cancels the members that still run as soon as the group can't succeed any more, as its
    /// evaluation says (default: it waits for all). A group that is sure to succeed waits for all.
    pub fn fail_fast(mut self) -> Self {
        self.0.is_fail_fast = true;
        self
    }
}

impl IntoStep<IsGroup> for Parallel {
    fn into_step(self) -> StepDef {
        let names: Vec<&str> = self.0.members.iter().map(StepDef::name).collect();
        let name: Arc<str> = format!("{{{}}}", names.join(" || ")).into();
        StepDef::grouped(name, Work::Parallel(self.0))
    }
}

/// Runs a step for each item of the collection `items`: a list, or [`Items`](crate::step::Items),
/// which makes one after another.
///
/// The item is the step's first input, unless [`Each::item`](ForEach::item) says which; its other
/// inputs are those of the run. The value is the list of theirs, in the order of the items, under
/// the step's name, with `null` for an item that failed or left none. As many run at once as there
/// are processors. Items that failed are told by the report, the first 100 of them one by one.
/// A step that stops ends its item, and none else.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, pipeline::{ForEach, each}, step, store};
///
/// #[step]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let all: ForEach = each("numbers", square).item("n").at_once(4);
/// let pipeline = Pipeline::new("squares").step(all).build()?;
/// let report = pipeline.run(store! { "numbers" => vec![1, 2, 3] }).await;
/// assert_eq!(*report.get::<Vec<u64>>("square")?, [1, 4, 9]);
///
/// let only_done = Pipeline::new("p").step(each("numbers", square).fail_fast().forget()).build()?;
/// assert!(!only_done.run(store! { "numbers" => [1, 2] }).await.store().has("square"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn each<M>(items: impl Into<String>, step: impl IntoStep<M>) -> ForEach {
    let (evaluation, items) = (Evaluation::NoneFailed, items.into());
    let how =
        Each { items, item: None, at_once: None, evaluation, is_fail_fast: false, keeps: true };
    ForEach { how, body: step.into_step() }
}

/// A step for each item of a collection: see [`each`].
#[derive(Clone, Debug)]
#[must_use = "a group does nothing until it is a step of a pipeline"]
pub struct ForEach {
    how: Each,
    body: StepDef,
}

impl ForEach {
    /// Says which of the step's inputs an item is (default: the first).
    pub fn item(mut self, name: impl Into<String>) -> Self {
        self.how.item = Some(name.into());
        self
    }

    /// Sets how many items are worked on at once, at least one (default: the processors).
    pub fn at_once(mut self, items: usize) -> Self {
        self.how.at_once = Some(items.max(1));
        self
    }

    /// Sets when the whole succeeds (default: [`Evaluation::NoneFailed`], so that no items are a
    /// success).
    pub fn evaluate(mut self, evaluation: Evaluation) -> Self {
        self.how.evaluation = evaluation;
        self
    }

    /// Begins no more items as soon as the whole can't succeed any more, and cancels those that still
    /// run (default: all items are worked on). By the default evaluation that is when one failed. One
    /// that counts, such as [`Evaluation::AtLeast`], takes a collection that knows how many items it
    /// has, as a list does.
    pub fn fail_fast(mut self) -> Self {
        self.how.is_fail_fast = true;
        self
    }

    /// Keeps none of the values: the step leaves nothing, in memory that does not grow with the
    /// items.
    pub fn forget(mut self) -> Self {
        self.how.keeps = false;
        self
    }
}

impl IntoStep<IsGroup> for ForEach {
    fn into_step(self) -> StepDef {
        let name = Arc::clone(&self.body.name);
        let output = Arc::clone(&self.body.output);
        let sub = Sub { how: How::Each(self.how), body: body_of(self.body) };
        StepDef::grouped(name, Work::Sub(sub)).output(&*output)
    }
}

/// Runs a step again and again, with what it left the time before: a number of times, or until a
/// condition holds, at most 1,000 times then. A step in it that returns
/// [`Flow::Stop`](crate::Flow::Stop), or whose success ends the run, ends the repetition, well.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, pipeline::{Repeated, repeat}, step, step::Input, store};
///
/// #[step(output = "total")]
/// fn add(total: i64) -> i64 {
///     total + 15
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let over_20 = |input: &Input<'_>| Ok::<_, railbus::StepError>(*input.get::<i64>("total")? > 20);
/// for (again, total) in [
///     (repeat(add).times(3), 45),
///     (repeat(add).times(3).fresh(), 15),
///     (repeat(add).until(over_20), 30),
///     (repeat(add).as_long_as(move |input| over_20(input).map(|over| !over)), 30),
/// ] {
///     let again: Repeated = again;
///     let pipeline = Pipeline::new("p").step(again).build()?;
///     let report = pipeline.run(store! { "total" => 0 }).await;
///     assert_eq!(*report.get::<i64>("total")?, total);
/// }
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub fn repeat<M>(step: impl IntoStep<M>) -> Repeated {
    let (goes_on, until) = (None, None);
    let how = Repeat { times: TIMES_MAX, is_bounded: false, goes_on, until, is_fresh: false };
    Repeated { how, body: step.into_step() }
}

/// A step that runs again and again: see [`repeat`].
#[derive(Clone, Debug)]
#[must_use = "a group does nothing until it is a step of a pipeline"]
pub struct Repeated {
    how: Repeat,
    body: StepDef,
}

impl Repeated {
    /// Sets how often it runs at most (default: 1,000, and a condition must end it before).
    pub fn times(mut self, times: u32) -> Self {
        (self.how.times, self.how.is_bounded) = (times, true);
        self
    }

    /// Ends before the time for which this does not hold, be it the first.
    pub fn as_long_as<C: IntoCondition>(
        mut self,
        asks: impl Fn(&Input<'_>) -> C + Send + Sync + 'static,
    ) -> Self {
        self.how.goes_on = Some(Asks(Arc::new(move |input| asks(input).into_condition())));
        self
    }

    /// Ends before the time for which this holds, be it the first.
    pub fn until<C: IntoCondition>(
        mut self,
        asks: impl Fn(&Input<'_>) -> C + Send + Sync + 'static,
    ) -> Self {
        self.how.until = Some(Asks(Arc::new(move |input| asks(input).into_condition())));
        self
    }

    /// Starts each time with the values from before the first (default: with what the time before
    /// left).
    pub fn fresh(mut self) -> Self {
        self.how.is_fresh = true;
        self
    }
}

impl IntoStep<IsGroup> for Repeated {
    fn into_step(self) -> StepDef {
        let name = Arc::clone(&self.body.name);
        let ends = self.how.is_bounded || self.how.goes_on.is_some() || self.how.until.is_some();
        let body = body_of(self.body);
        let def = StepDef::grouped(name, Work::Sub(Sub { how: How::Repeat(self.how), body }));
        if ends {
            def
        } else {
            def.refused("it repeats without an end", "say how often: .times(3)")
        }
    }
}

/// Returns what runs again and again, or for each item: a pipeline itself, not one around it, unless
/// something is said of it there.
fn body_of(def: StepDef) -> Body {
    let is_bare = def.is_bare();
    match def.work {
        Work::Sub(Sub { how: How::Nested, body }) if is_bare => body,
        _ => Body::Def(Box::new(def)),
    }
}
