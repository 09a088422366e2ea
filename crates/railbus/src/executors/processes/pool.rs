//! The pool of workers, and the executor that gives them tasks.

use super::{
    message,
    registry::{registered, unknown},
    seats::{Pool, Work},
};
use crate::{
    error::{Error, ErrorKind, Result},
    executor::{Candidate, Executor, Task},
    step::{Exception, StepError, StepResult},
    task,
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError},
    thread,
};
use tracing::level_filters::LevelFilter;

/// Runs steps in processes of their own: the program starts itself again, as workers.
///
/// [`worker::init`](crate::worker::init) stands first in `main` and names the steps. Equal
/// descriptions share one pool for the life of the program. A worker starts when there is work and
/// none is free, up to as many as described (default: as there are processors), runs one task at a
/// time, and waits for more after that. While all are busy with tasks that are quick, each is given
/// a few ahead (a millisecond later they go back if the one before them is not done; needs a runtime
/// with a clock). Needs a tokio runtime with I/O.
///
/// What a step takes and leaves crosses as JSON: the values that its signature needs, its event,
/// the context and the tries; so `Input`, `Opaque` values and states that only the pipeline has are
/// refused when the pipeline is built. What a step writes to stdout or stderr comes out at the
/// program's stderr, line by line; its log lines become the program's, under the target
/// `railbus::worker`, unless the worker has a subscriber of its own.
///
/// A worker that is killed, aborts, exits, runs out of memory or writes what is no message fails
/// the task that it runs, by an exception of kind `worker` that ends with what it wrote to stderr,
/// and is replaced; those that it was given ahead go to another. A task that is given up ends its
/// worker once it has begun. No worker outlives the program, nor does anything else in its process
/// group outlive a worker.
///
/// # Examples
/// ```no_run
/// use railbus::{Pipeline, Steps, executors::Processes, step, store};
///
/// #[step(executor = Processes::new(2).max_tasks_per_child(100).memory_limit(1 << 30))]
/// fn roots(data: &[f64]) -> Vec<f64> {
///     data.iter().map(|x| x.sqrt()).collect()
/// }
///
/// // The same as `worker::init(Steps::new().add(roots))` first in a `main` of one's own.
/// #[railbus::main(steps = Steps::new().add(roots))]
/// async fn main() -> railbus::Result<()> {
///     let pipeline = Pipeline::new("roots").step(roots).build()?;
///     println!("{}", pipeline.run(store! { "data" => vec![4.0, 9.0] }).await);
///     assert_ne!(Processes::new(2), Processes::default().max_tasks_per_child(1));
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Processes {
    described: Described,
    pool: OnceLock<Arc<Pool>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Described {
    workers: usize,
    tasks_max: Option<usize>,
    memory: Option<u64>,
}

impl Processes {
    /// Describes a pool of at most `workers` processes; of none, building the pipeline refuses it.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let described = Described { workers, tasks_max: None, memory: None };
        Self { described, pool: OnceLock::new() }
    }

    /// Replaces each worker after so many tasks (default: never).
    #[must_use]
    pub fn max_tasks_per_child(self, tasks: usize) -> Self {
        Self::of(Described { tasks_max: Some(tasks), ..self.described })
    }

    /// Sets how much address space a worker may have, in bytes (default: as the system allows).
    /// Rust aborts where memory is refused, so one that wants more fails its task.
    #[must_use]
    pub fn memory_limit(self, bytes: u64) -> Self {
        Self::of(Described { memory: Some(bytes), ..self.described })
    }

    fn of(described: Described) -> Self {
        Self { described, pool: OnceLock::new() }
    }

    fn pool(&self) -> &Arc<Pool> {
        self.pool.get_or_init(|| pool_of(self.described))
    }
}

impl Default for Processes {
    fn default() -> Self {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }
}

impl PartialEq for Processes {
    fn eq(&self, other: &Self) -> bool {
        self.described == other.described
    }
}

#[async_trait]
impl Executor for Processes {
    fn check(&self, step: &Candidate<'_>) -> Result<()> {
        let Described { workers, tasks_max, .. } = self.described;
        let refuse = |why: &'static str, hint: &str| {
            Err(Error::new(ErrorKind::Config, "processes", why).hint(hint.to_owned()))
        };
        match (workers, tasks_max) {
            (0, _) => refuse("a pool of no workers runs nothing", "max_workers is 1 or more"),
            (_, Some(0)) => refuse("a worker without a task", "max_tasks_per_child is 1 or more"),
            _ => match registered() {
                Some(registry) => registry.check(step),
                None => Err(unknown(step.name(), "")),
            },
        }
    }

    async fn execute(&self, task: Task) -> StepResult {
        let unsupported = |e| StepError::Exception(Exception::new("unsupported", e));
        task::runtime("execute").map_err(unsupported)?;
        let key = registered().and_then(|known| known.key(&task.name, &*task.step));
        let key = key.ok_or_else(|| unsupported(unknown(&task.name, "")))?;
        let level = level();
        let frame = message::task(&task, key, level)?;
        let Task { name, context, .. } = task;
        self.pool().run(Work::new(frame, name, context, level)).await
    }
}

/// Returns up to which level anybody listens to log lines: 0 for none, 5 for all.
fn level() -> u8 {
    let levels = [
        LevelFilter::OFF,
        LevelFilter::ERROR,
        LevelFilter::WARN,
        LevelFilter::INFO,
        LevelFilter::DEBUG,
    ];
    let here = LevelFilter::current();
    (0..5).zip(levels).find(|(_, level)| *level == here).map_or(5, |(number, _)| number)
}

static POOLS: LazyLock<Mutex<HashMap<Described, Arc<Pool>>>> = LazyLock::new(Mutex::default);

fn pool_of(described: Described) -> Arc<Pool> {
    let Described { workers, tasks_max, memory } = described;
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Arc::new(Pool::new(workers, tasks_max, memory));
    Arc::clone(pools.entry(described).or_insert_with(new))
}
