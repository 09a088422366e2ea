//! The seats of a pool, one a worker that runs, and the queue before them.

use super::{
    child::{Broken, Worker, tell},
    message::LogHead,
    pipe::PIECE_MAX,
};
use crate::{
    context::{self, Context},
    error::BoxError,
    executor::Carried,
    step::{Exception, StepError, StepResult},
    task,
};
use futures_util::FutureExt;
use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Handle, Id},
    sync::oneshot::{self, Receiver, Sender},
};

/// How long a worker may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// So many tasks may wait at least until those that were given up are let go of.
const STALE_MIN: usize = 64;

/// A task, written down.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) frame: Vec<u8>,
    step: Arc<str>,
    // Where its log lines are told, if anybody listens.
    around: Option<(Carried, Option<Context>)>,
    pub(super) runtime: Id,
}

impl Work {
    /// Takes a task from where it is waited for; its log lines are told there up to `level`.
    pub(super) fn new(frame: Vec<u8>, step: Arc<str>, context: Option<Context>, level: u8) -> Self {
        let around = (level > 0).then(|| (Carried::here(), context));
        Self { frame, step, around, runtime: Handle::current().id() }
    }

    /// Tells a log line of it, as if its pipeline had written it.
    pub(super) fn tell(&self, line: &LogHead) {
        let Some((carried, context)) = &self.around else { return };
        let told = async { carried.run(|| tell(line, &self.step)) };
        match context.clone() {
            Some(context) => context::within(context, told).now_or_never(),
            None => told.now_or_never(),
        };
    }
}

/// A task that somebody waits for.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) work: Work,
    // None once its turn has come, and it leads.
    pub(super) reply: Option<Sender<Turn>>,
}

impl Job {
    fn is_wanted(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    fn fits(&self, runtime: Id) -> bool {
        self.work.runtime == runtime && self.work.frame.len() <= PIECE_MAX
    }

    /// Lets it begin.
    fn sit(self, seat: Seat) {
        if let Some(reply) = self.reply {
            // If nobody waits for it any more, the seat is left when it is dropped.
            drop(reply.send(Turn::Seat(seat, self.work)));
        }
    }
}

/// What becomes of a task that waits.
#[derive(Debug)]
pub(super) enum Turn {
    Came(StepResult),
    /// It is the first of a line, and leads.
    Lead(Line),
    /// There is a worker for it, or room for one.
    Seat(Seat, Work),
}

/// A worker, and the tasks that it was given and did not answer.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) seat: Seat,
    pub(super) jobs: VecDeque<Job>,
    pub(super) runtime: Id,
    // Whether the first was given; those behind it were.
    pub(super) is_given: bool,
    // Since when, and how many were answered since.
    pub(super) since: Instant,
    pub(super) answered: u32,
}

/// The workers of a pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) workers: usize,
    tasks_max: Option<usize>,
    memory: Option<u64>,
    // Set where a runtime can't tell how long a task takes.
    pub(super) has_no_clock: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    #[expect(clippy::vec_box, reason = "a worker is large, and is passed from hand to hand")]
    idle: Vec<Box<Worker>>,
    // Taken ones; idle workers have none.
    seats: usize,
    // Nobody waits while there is a seat.
    waiting: VecDeque<Job>,
    // So many may wait until those that were given up are let go of.
    stale_at: usize,
}

impl State {
    fn next(&mut self) -> Option<Job> {
        while let Some(job) = self.waiting.pop_front() {
            if job.is_wanted() {
                return Some(job);
            }
        }
        None
    }
}

impl Pool {
    pub(super) fn new(workers: usize, tasks_max: Option<usize>, memory: Option<u64>) -> Self {
        let (has_no_clock, state) = Default::default();
        Self { workers, tasks_max, memory, has_no_clock, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat for a task, or a place in the queue.
    pub(super) fn enter(self: &Arc<Self>, work: Work) -> Result<Turn, Receiver<Turn>> {
        let mut state = self.state();
        if let Some(seat) = self.seat(&mut state) {
            return Ok(Turn::Seat(seat, work));
        }
        let (reply, waiting) = oneshot::channel();
        state.waiting.push_back(Job { work, reply: Some(reply) });
        if state.waiting.len() > state.stale_at.max(STALE_MIN) {
            state.waiting.retain(Job::is_wanted);
            state.stale_at = 2 * state.waiting.len();
        }
        Err(waiting)
    }

    /// Takes a seat, with the worker that worked last.
    fn seat(self: &Arc<Self>, state: &mut State) -> Option<Seat> {
        (state.seats < self.workers).then(|| {
            state.seats += 1;
            Seat { pool: Arc::clone(self), worker: state.idle.pop(), is_moved: false }
        })
    }

    /// Gives a seat that is left to whoever waits first.
    fn leave(self: &Arc<Self>, worker: Option<Box<Worker>>) {
        let mut state = self.state();
        if let Some(job) = state.next() {
            drop(state);
            job.sit(Seat { pool: Arc::clone(self), worker, is_moved: false });
        } else {
            state.seats -= 1;
            state.idle.extend(worker);
        }
    }

    /// Lets go of workers that died while they waited, which reaps them.
    fn sweep(&self) {
        let dead: Vec<_> = self.state().idle.extract_if(.., |worker| worker.has_ended()).collect();
        drop(dead);
    }

    /// Takes up to `most` short tasks of a runtime from the queue, but not more than are this
    /// seat's share.
    pub(super) fn take_ahead(&self, most: usize, runtime: Id, jobs: &mut VecDeque<Job>) {
        let mut state = self.state();
        let share = state.waiting.len().div_ceil(state.seats.max(1));
        for _ in 0..most.min(share) {
            match state.next() {
                Some(job) if job.fits(runtime) => jobs.push_back(job),
                Some(job) => return state.waiting.push_front(job),
                None => return,
            }
        }
    }

    /// Has tasks wait again, before all others; where there are seats, they have them at once.
    pub(super) fn put_back(self: &Arc<Self>, jobs: VecDeque<Job>) {
        if jobs.is_empty() {
            return;
        }
        let mut state = self.state();
        for job in jobs.into_iter().rev() {
            state.waiting.push_front(job);
        }
        while state.seats < self.workers
            && let Some(job) = state.next()
            && let Some(seat) = self.seat(&mut state)
        {
            drop(state);
            job.sit(seat);
            state = self.state();
        }
    }
}

/// The right to one of the pool's workers; whoever waits first has it next.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) pool: Arc<Pool>,
    // None until it is started, or when it is killed.
    pub(super) worker: Option<Box<Worker>>,
    is_moved: bool,
}

impl Seat {
    /// Moves it out of what has a drop of its own.
    pub(super) fn moved(&mut self) -> Self {
        let (pool, worker) = (Arc::clone(&self.pool), self.worker.take());
        let is_moved = mem::replace(&mut self.is_moved, true);
        Self { pool, worker, is_moved }
    }

    /// Sees to it that there is a worker, watched by this runtime.
    pub(super) async fn ready(&mut self) -> Result<(), StepError> {
        if let Some(worker) = &mut self.worker {
            return worker.settle().map_err(|error| {
                self.worker = None;
                no_worker(&error)
            });
        }
        let Pool { memory, tasks_max, .. } = *self.pool;
        let pool = Arc::downgrade(&self.pool);
        let ended = move || pool.upgrade().into_iter().for_each(|pool| pool.sweep());
        let mut worker = Worker::start(memory, tasks_max, ended).map_err(|e| no_worker(&e))?;
        match task::within(START_MAX, worker.greet()).await {
            Some(Ok(())) => self.worker = Some(Box::new(worker)),
            Some(Err(broken)) => return Err(why(broken, worker).await),
            None => {
                let why = "its worker did not say hello: worker::init must come first in main";
                return Err(failed(why));
            }
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_moved {
            return;
        }
        let worn = self.worker.take_if(|worker| worker.tasks_left == Some(0));
        self.pool.leave(self.worker.take());
        if let Some(worker) = worn {
            worker.retire();
        }
    }
}

fn no_worker(error: &io::Error) -> StepError {
    failed(format!("no worker can be started: {error}"))
}

/// Ends a worker, and says how it failed its task.
pub(super) async fn why(broken: Broken, worker: Worker) -> StepError {
    let (status, said) = worker.end().await;
    let how = match (broken, status) {
        (Broken::Refused(why) | Broken::Garbage(why), _) => format!("its worker is none: {why}"),
        (Broken::Ended, Some(status)) => format!("its worker ended: {status}"),
        (Broken::Ended, None) => "its worker ended".into(),
    };
    failed(if said.is_empty() { how } else { format!("{how}: {said}") })
}

pub(super) fn failed(how: impl Into<BoxError>) -> StepError {
    StepError::Exception(Exception::new("worker", how))
}
