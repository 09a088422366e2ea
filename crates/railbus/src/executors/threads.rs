//! Pools of threads of their own.

use crate::{
    error::{Error, ErrorKind, Result},
    executor::{Candidate, Carried, Executor, Task},
    step::{Exception, StepError, StepResult},
};
use async_trait::async_trait;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::{
    any::Any,
    collections::HashMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, LazyLock, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use tokio::{runtime::Handle, sync::oneshot};

/// Runs steps on a pool of threads, kept for the life of the program.
///
/// Equal descriptions share one pool. A thread starts when there is work and none is free, up to as
/// many as described (default: as there are processors), and waits for more work after that; it is
/// named by the prefix (default `railbus-`) and its number from 0.
///
/// A sync step may block in any way. An async step is driven on its thread, with the runtime of
/// whoever runs the pipeline, if there is one. A step that nobody waits for any more is not begun;
/// one that has begun is told by its [`Cancel`](crate::cancel::Cancel), and ended at its next await
/// if it is async. Log lines on the thread go where the pipeline's go.
///
/// # Examples
/// ```
/// use railbus::{Pipeline, StepDef, executors::Threads, store};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let pool = Threads::new(4).max_tasks_per_child(50).thread_name_prefix("crunch_");
/// let name = StepDef::value("name", |_| {
///     std::thread::current().name().unwrap_or_default().to_owned()
/// });
/// let pipeline = Pipeline::new("names").step(name.executor(pool)).build()?;
/// assert_eq!(*pipeline.run(store! {}).await.get::<String>("name")?, "crunch_0");
/// assert_eq!(Threads::default().thread_name_prefix("railbus-"), Threads::default());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Threads {
    described: Described,
    // Found once, so that a task locks no table.
    pool: OnceLock<Arc<Pool>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Described {
    workers: usize,
    tasks_max: Option<usize>,
    prefix: Arc<str>,
}

impl Threads {
    /// Describes a pool of at most `workers` threads; of none, building the pipeline refuses it.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let described = Described { workers, tasks_max: None, prefix: "railbus-".into() };
        Self { described, pool: OnceLock::new() }
    }

    /// Replaces each thread after so many steps (default: never).
    #[must_use]
    pub fn max_tasks_per_child(self, tasks: usize) -> Self {
        self.with(|described| described.tasks_max = Some(tasks))
    }

    /// Sets what the threads' names begin with; their number follows.
    #[must_use]
    pub fn thread_name_prefix(self, prefix: impl Into<Arc<str>>) -> Self {
        self.with(|described| described.prefix = prefix.into())
    }

    fn with(mut self, change: impl FnOnce(&mut Described)) -> Self {
        change(&mut self.described);
        Self { pool: OnceLock::new(), ..self }
    }

    fn pool(&self) -> &Arc<Pool> {
        self.pool.get_or_init(|| Pool::of(&self.described))
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }
}

impl PartialEq for Threads {
    fn eq(&self, other: &Self) -> bool {
        self.described == other.described
    }
}

#[async_trait]
impl Executor for Threads {
    fn check(&self, _: &Candidate<'_>) -> Result<()> {
        let Described { workers, tasks_max, prefix } = &self.described;
        let refuse = |why: &'static str, hint: &str| {
            Err(Error::new(ErrorKind::Config, "threads", why).hint(hint.to_owned()))
        };
        match (workers, tasks_max) {
            (0, _) => refuse("a pool of no threads runs nothing", "max_workers is 1 or more"),
            (_, Some(0)) => refuse("a thread without a task", "max_tasks_per_child is 1 or more"),
            _ if prefix.contains('\0') => refuse("a thread's name has no NUL", "leave it out"),
            _ => Ok(()),
        }
    }

    async fn execute(&self, task: Task) -> StepResult {
        let given_up = task.cancel().on_drop();
        let (reply, replied) = oneshot::channel();
        let (carried, runtime) = (Carried::here(), Handle::try_current().ok());
        let job = Job { task: Arc::new(Mutex::new(Some(task))), carried, runtime, reply };
        // What has not begun is taken back, also where the pool never comes to it.
        let waiting = TakesBack(Arc::clone(&job.task));
        let no_thread = |e| StepError::Exception(Exception::new("thread", e));
        self.pool().submit(job).map_err(no_thread)?;
        let ended = replied.await;
        drop(waiting);
        given_up.call_off();
        match ended {
            Ok(Ok(came)) => came,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(StepError::Exception(Exception::new("thread", "its thread is gone"))),
        }
    }
}

/// How often an idle thread looks for a job before it sleeps: some tens of microseconds.
const AWAKE: u32 = 128;

struct TakesBack(Arc<Mutex<Option<Task>>>);

impl Drop for TakesBack {
    fn drop(&mut self) {
        drop(taken(&self.0));
    }
}

fn taken(task: &Mutex<Option<Task>>) -> Option<Task> {
    task.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A task on its way to a thread.
struct Job {
    // Taken by the thread that begins it, or by whoever gives it up before.
    task: Arc<Mutex<Option<Task>>>,
    carried: Carried,
    runtime: Option<Handle>,
    reply: oneshot::Sender<Ended>,
}

type Ended = std::result::Result<StepResult, Box<dyn Any + Send>>;

#[derive(Debug)]
struct Pool {
    described: Described,
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
    /// Jobs that are waiting or running.
    pending: AtomicUsize,
    threads: AtomicUsize,
}

static POOLS: LazyLock<Mutex<HashMap<Described, Arc<Pool>>>> = LazyLock::new(Mutex::default);

impl Pool {
    fn of(described: &Described) -> Arc<Self> {
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let ((jobs, waiting), described) = (unbounded(), described.clone());
            let (pending, threads) = Default::default();
            Arc::new(Self { described, jobs, waiting, pending, threads })
        };
        Arc::clone(pools.entry(described.clone()).or_insert_with(new))
    }

    fn submit(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let pending = self.pending.fetch_add(1, Ordering::Relaxed) + 1;
        self.grow(pending).inspect_err(|_| {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        })?;
        // The pool holds both ends, so there is always one who listens.
        let _ = self.jobs.send(job);
        Ok(())
    }

    /// Starts a thread if there are fewer than jobs and may be more.
    fn grow(self: &Arc<Self>, pending: usize) -> io::Result<()> {
        let max = self.described.workers;
        let more = |threads: usize| (threads < max.min(pending)).then_some(threads + 1);
        let claimed = self.threads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        let Ok(number) = claimed else { return Ok(()) };
        let Err(error) = self.start(number) else { return Ok(()) };
        let before = self.threads.fetch_sub(1, Ordering::Relaxed);
        // The threads that there are will come to it.
        if before > 1 { Ok(()) } else { Err(error) }
    }

    fn start(self: &Arc<Self>, number: usize) -> io::Result<()> {
        let (pool, name) = (Arc::clone(self), format!("{}{number}", self.described.prefix));
        thread::Builder::new().name(name).spawn(move || pool.work(number)).map(drop)
    }

    fn work(self: Arc<Self>, number: usize) {
        let mut left = self.described.tasks_max;
        while let Some(job) = self.next() {
            self.run(job);
            left = left.map(|left| left - 1);
            // Where no other can be had, this thread goes on.
            if left == Some(0) && self.start(number).is_ok() {
                return;
            }
            left = left.filter(|left| *left > 0).or(self.described.tasks_max);
        }
    }

    /// Waits for a job: for a short while awake, since one often follows another and waking a
    /// thread takes longer than most of them.
    fn next(&self) -> Option<Job> {
        for _ in 0..AWAKE {
            if let Ok(job) = self.waiting.try_recv() {
                return Some(job);
            }
            thread::yield_now();
        }
        self.waiting.recv().ok()
    }

    fn run(&self, job: Job) {
        let Job { task, carried, runtime, reply } = job;
        let ended = taken(&task).map(|task| {
            let work = || task.block(runtime.as_ref());
            catch_unwind(AssertUnwindSafe(|| carried.run(work)))
        });
        // Before the reply, so that whoever waits for it finds this thread free.
        self.pending.fetch_sub(1, Ordering::Relaxed);
        if let Some(ended) = ended {
            let _ = reply.send(ended);
        }
    }
}
