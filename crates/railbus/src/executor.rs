//! The contract of an executor: where a step runs.

use crate::{
    cancel::Cancel,
    context::{self, Context},
    error::Result,
    event::Event,
    state::States,
    step::{Bindings, Exception, Input, Ran, Signature, Step, StepError, StepResult, Store},
};
use async_trait::async_trait;
use futures_util::FutureExt;
use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as PollContext, Poll, Wake, Waker},
    thread::{self, Thread},
};
use tokio::runtime::Handle;
use tracing::{
    Dispatch, Span,
    dispatcher::{get_default, with_default},
    level_filters::LevelFilter,
};

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
    note = "use one of railbus::executors, such as `Threads::new(4)`, or implement Executor"
)]
#[async_trait]
pub trait Executor: Send + Sync + fmt::Debug + 'static {
    /// Says whether it can run a step (default: any). Asked when a pipeline is built.
    ///
    /// # Errors
    /// Returns why it can't run this one, or any.
    fn check(&self, step: &Candidate<'_>) -> Result<()> {
        let _ = step;
        Ok(())
    }

    /// Runs a task to its end, once.
    ///
    /// # Cancel safety
    /// If it is dropped, the task is given up.
    async fn execute(&self, task: Task) -> StepResult;
}

/// A step that an executor will be asked to run.
///
/// # Examples
/// ```
/// use railbus::{Error, ErrorKind, Pipeline, Result, StepDef, StepResult};
/// use railbus::executor::{Candidate, Executor, Task};
///
/// /// Runs what needs nothing.
/// #[derive(Debug)]
/// struct Bare;
///
/// #[async_trait::async_trait]
/// impl Executor for Bare {
///     fn check(&self, step: &Candidate<'_>) -> Result<()> {
///         match step.signature().all_needs() {
///             [] => Ok(()),
///             _ => Err(Error::new(ErrorKind::Unsupported, "bare", step.name().to_owned())),
///         }
///     }
///
///     async fn execute(&self, task: Task) -> StepResult {
///         task.run().await
///     }
/// }
///
/// let double = StepDef::value("double", |_| 7).needs::<u32>("n").executor(Bare);
/// assert!(Pipeline::new("p").step(double).build().is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub(crate) name: &'a str,
    #[cfg_attr(not(feature = "processes"), allow(dead_code))]
    pub(crate) step: &'a dyn Step,
    pub(crate) signature: &'a Signature,
}

impl<'a> Candidate<'a> {
    /// Returns the name that the step has in its pipeline.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns what it needs and leaves.
    #[must_use]
    pub fn signature(&self) -> &'a Signature {
        self.signature
    }
}

/// What can say where a step runs: an [`Executor`], [`Inline`](crate::executors::Inline), or a map
/// with the key `kind` (`inline`, `blocking`, `threads` or `processes`) and what the kind takes:
/// `max_workers`, `max_tasks_per_child`, `thread_name_prefix` (threads alone) and `memory_limit` in
/// bytes (processes alone).
///
/// # Examples
/// ```
/// use railbus::{executor::IntoExecutor, executors::Threads, json};
///
/// let threads = json!({"kind": "threads", "max_workers": 4}).into_executor()?.unwrap();
/// assert_eq!(format!("{threads:?}"), format!("{:?}", Threads::new(4)));
/// let error = json!({"kind": "threads", "max_worker": 4}).into_executor().unwrap_err();
/// assert!(error.advice().unwrap().starts_with("did you mean `max_workers`?"));
/// # Ok::<(), railbus::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an executor",
    note = "use one of railbus::executors, such as `Threads::new(4)`, a map, `json!({{\"kind\": \"threads\"}})`, or implement Executor"
)]
pub trait IntoExecutor {
    /// Makes it an executor; none where the pipeline runs.
    ///
    /// # Errors
    /// Returns a config error that names a key or kind that is unknown or of the wrong type.
    fn into_executor(self) -> Result<Option<Arc<dyn Executor>>>;
}

#[diagnostic::do_not_recommend]
impl<E: Executor> IntoExecutor for E {
    fn into_executor(self) -> Result<Option<Arc<dyn Executor>>> {
        Ok(Some(Arc::new(self)))
    }
}

impl IntoExecutor for Arc<dyn Executor> {
    fn into_executor(self) -> Result<Option<Arc<dyn Executor>>> {
        Ok(Some(self))
    }
}

/// What log lines go by, on its way to another thread.
#[derive(Debug)]
pub(crate) struct Carried(Option<(Dispatch, Span)>);

impl Carried {
    /// Takes what is there now; nothing, at no cost, while nobody listens to log lines.
    pub(crate) fn here() -> Self {
        let nobody = LevelFilter::current() == LevelFilter::OFF;
        Self((!nobody).then(|| (get_default(Dispatch::clone), Span::current())))
    }

    /// Runs `work` with it.
    pub(crate) fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some((dispatch, span)) => with_default(dispatch, || span.in_scope(work)),
            None => work(),
        }
    }
}

/// One try of a step, with all that it needs, to be run anywhere in this process.
pub struct Task {
    pub(crate) name: Arc<str>,
    pub(crate) step: Arc<dyn Step>,
    // Of the step in its pipeline, which may need more than the step itself says.
    #[cfg_attr(not(feature = "processes"), allow(dead_code))]
    pub(crate) signature: Arc<Signature>,
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
    /// that it may wait on a runtime itself; an async one ends at its next await when cancelled.
    pub(crate) fn block(self, runtime: Option<&Handle>) -> StepResult {
        let _inside = runtime.map(Handle::enter);
        let Self {
            step, event, store, bindings, states, attempt, step_try, context, cancel, ..
        } = self;
        let (store, bindings, states) = (&*store, &*bindings, &*states);
        let event = event.as_ref();
        let told = &cancel;
        let cancel = Some(told);
        let input = Input { event, store, bindings, states, attempt, step_try, cancel };
        // Polled once by hand: it does nothing but call.
        let called = within(context.clone(), async { step.call(input) }).now_or_never();
        match called.unwrap_or_else(|| step.call(input)) {
            Ran::Now(result) => result,
            Ran::Later(running) => {
                let running = pin!(within(context, running));
                let until = pin!(until(told, running));
                match runtime {
                    Some(runtime) => runtime.block_on(until),
                    None => wait_for(until),
                }
            }
        }
    }
}

/// Awaits a step until it is cancelled.
async fn until(cancel: &Cancel, running: impl Future<Output = StepResult>) -> StepResult {
    tokio::select! {
        biased;
        came = running => came,
        () = cancel.cancelled() => {
            Err(StepError::Exception(Exception::new("cancelled", "nobody waits for it any more")))
        }
    }
}

/// Runs a future on this thread, without a runtime.
fn wait_for<F: Future + Unpin>(mut running: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let mut polls = PollContext::from_waker(&waker);
    loop {
        match Pin::new(&mut running).poll(&mut polls) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
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
