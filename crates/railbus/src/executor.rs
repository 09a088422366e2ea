//! The contract of an executor: where a step runs.

use crate::{
    cancel::Cancel,
    context::{self, Context},
    event::Event,
    state::States,
    step::{Bindings, Input, Ran, Step, StepResult, Store},
};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::{fmt, future::Future, sync::Arc};
use tokio::runtime::Handle;

/// Where a step runs: elsewhere than in the task that runs the pipeline.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, StepResult, executor::{Executor, Task}, store};
///
/// /// Says what it runs.
/// #[derive(Debug)]
/// struct Loud;
///
/// #[async_trait::async_trait]
/// impl Executor for Loud {
///     async fn execute(&self, task: Task) -> StepResult {
///         println!("running {}, unless cancelled: {:?}", task.step(), task.cancel());
///         task.run().await
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let seven = StepDef::value("seven", |_| 7);
/// let pipeline = Pipeline::new("loud").step(seven.executor(Loud)).build()?;
/// assert_eq!(*pipeline.run(store! {}).await.store().get::<i32>("seven")?, 7);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an executor",
    note = "use one of railbus::executors, such as `Blocking`, or implement Executor"
)]
#[async_trait]
pub trait Executor: Send + Sync + fmt::Debug + 'static {
    /// Runs a task to its end, once.
    ///
    /// # Cancel safety
    /// If it is dropped, the task is given up.
    async fn execute(&self, task: Task) -> StepResult;
}

/// One try of a step, with all that it needs, to be run anywhere in this process.
pub struct Task {
    pub(crate) name: Arc<str>,
    pub(crate) step: Arc<dyn Step>,
    pub(crate) event: Option<Event>,
    pub(crate) store: Arc<Store>,
    pub(crate) bindings: Arc<Bindings>,
    pub(crate) states: Arc<States>,
    pub(crate) attempt: u32,
    pub(crate) step_try: u32,
    pub(crate) context: Option<Context>,
    pub(crate) cancel: Cancel,
}

impl Task {
    /// Returns the name of the step.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.name
    }

    /// Returns what tells the step that nobody waits for it any more: cancelled when the future of
    /// [`Executor::execute`] is dropped before its end.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Runs it, in the context that the pipeline runs in.
    ///
    /// # Cancel safety
    /// That of the step.
    pub async fn run(self) -> StepResult {
        let Self {
            step, event, store, bindings, states, attempt, step_try, context, cancel, ..
        } = self;
        let (store, bindings, states) = (&*store, &*bindings, &*states);
        let event = event.as_ref();
        let cancel = Some(&cancel);
        let input = Input { event, store, bindings, states, attempt, step_try, cancel };
        let run = async {
            match step.call(input) {
                Ran::Now(result) => result,
                Ran::Later(running) => running.await,
            }
        };
        within(context, run).await
    }

    /// Runs it on this thread, which may block. A sync step is called outside of any future, so
    /// that it may wait on a runtime itself.
    pub(crate) fn block(self, runtime: &Handle) -> StepResult {
        let Self {
            step, event, store, bindings, states, attempt, step_try, context, cancel, ..
        } = self;
        let (store, bindings, states) = (&*store, &*bindings, &*states);
        let event = event.as_ref();
        let cancel = Some(&cancel);
        let input = Input { event, store, bindings, states, attempt, step_try, cancel };
        // Polled once by hand: it does nothing but call.
        let called = within(context.clone(), async { step.call(input) }).now_or_never();
        match called.unwrap_or_else(|| step.call(input)) {
            Ran::Now(result) => result,
            Ran::Later(running) => runtime.block_on(within(context, running)),
        }
    }
}

async fn within<F: Future>(context: Option<Context>, run: F) -> F::Output {
    match context {
        Some(context) => context::within(context, run).await,
        None => run.await,
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({}, try {})", self.name, self.step_try)
    }
}
