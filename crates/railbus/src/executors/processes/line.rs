//! Lines: how a worker is given tasks ahead, and whoever waits for the first of them leads.
//!
//! A worker runs its tasks in order, and takes the next one out of its pipe only when it has
//! answered the one before. So what is still in the pipe was not begun, for certain: it can be
//! taken out again, and be given to another.

use super::{
    child::Broken,
    message::came,
    seats::{Job, Line, Pool, Seat, Turn, Work, failed, why},
    wire::{Frame, Kind},
};
use crate::{step::StepResult, task};
use std::{
    collections::VecDeque,
    mem,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How many tasks a worker may have at once: a pipe has room for as many pieces.
const AHEAD_MAX: u128 = 16;

/// How much work a worker may have before it, going by how long a task took of late.
const AHEAD: Duration = Duration::from_micros(400);

/// How long a task may keep those behind it from other workers, and from being given up.
const LATE: Duration = Duration::from_millis(1);

/// How many workers may be gone before they begin a task, until it fails.
const MISSES_MAX: u32 = 3;

impl Pool {
    /// Has a worker run a task.
    ///
    /// # Cancel safety
    /// If it is dropped, the task is not begun, or the worker that runs it is killed.
    pub(super) async fn run(self: &Arc<Self>, work: Work) -> StepResult {
        let turn = match self.enter(work) {
            Ok(turn) => turn,
            Err(waiting) => waiting.await.map_err(|_| failed("its worker is gone"))?,
        };
        match turn {
            Turn::Came(came) => came,
            Turn::Lead(line) => line.lead().await,
            Turn::Seat(seat, work) => Line::new(seat, work).lead().await,
        }
    }
}

impl Line {
    fn new(seat: Seat, work: Work) -> Self {
        let runtime = work.runtime;
        let jobs = VecDeque::from([Job { work, reply: None }]);
        Self { seat, jobs, runtime, is_given: false, since: Instant::now(), answered: 0 }
    }

    /// Sees the first task through, and whatever is answered meanwhile; then the next leads.
    async fn lead(mut self) -> StepResult {
        let mut misses = 0;
        loop {
            if !self.is_given {
                self.seat.ready().await?;
            }
            let broken = match self.serve().await {
                Ok(came) => return came,
                Err(broken) => broken,
            };
            misses += 1;
            if !self.was_missed(&broken) || misses >= MISSES_MAX {
                let gone = self.seat.worker.take();
                return Err(match gone {
                    Some(worker) => why(broken, *worker).await,
                    None => failed("its worker is gone"),
                });
            }
            // It is killed, if it is not dead.
            self.seat.worker = None;
            self.is_given = false;
        }
    }

    async fn serve(&mut self) -> Result<StepResult, Broken> {
        loop {
            if !self.is_given {
                let (worker, own) = (self.seat.worker.as_mut(), self.jobs.front());
                let (Some(worker), Some(own)) = (worker, own) else { return Err(Broken::Ended) };
                worker.give(&own.work.frame).await?;
                self.is_given = true;
                self.fill();
            }
            if let Some(came) = self.hear()? {
                return Ok(came);
            }
            self.wait().await?;
        }
    }

    /// Goes through what the worker said so far, up to what the first task came to, if somebody
    /// leads.
    fn hear(&mut self) -> Result<Option<StepResult>, Broken> {
        while let (Some(worker), Some(first)) = (&mut self.seat.worker, self.jobs.front()) {
            let Some(frame) = worker.heard()? else { return Ok(None) };
            match frame.kind {
                Kind::Log => tell(&first.work, &frame)?,
                Kind::Answer => {
                    let came = came(frame).map_err(Broken::Garbage)?;
                    worker.tasks_left = worker.tasks_left.map(|left| left.saturating_sub(1));
                    self.answered += 1;
                    match self.jobs.pop_front().and_then(|job| job.reply) {
                        // Nobody may wait for it any more.
                        Some(reply) => drop(reply.send(Turn::Came(came))),
                        None => return Ok(Some(came)),
                    }
                }
                _ => return Err(Broken::Garbage("it said hello once more".into())),
            }
        }
        Ok(None)
    }

    /// Waits until the worker says more. Tasks behind one that takes its time go back: another
    /// worker may have them, or nobody want them any more.
    async fn wait(&mut self) -> Result<(), Broken> {
        let Self { seat: Seat { pool, worker: Some(worker), .. }, jobs, .. } = self else {
            return Err(Broken::Ended);
        };
        if jobs.len() == 1 {
            return worker.listen().await;
        }
        match task::sleep("execute", LATE) {
            Ok(late) => tokio::select! {
                biased;
                more = worker.listen() => return more,
                () = late => {}
            },
            Err(_) => pool.has_no_clock.store(true, Ordering::Relaxed),
        }
        worker.pace = Some(LATE);
        if let Some(unread) = worker.take_back() {
            // A worker that had no time to begin may have left the first one as well.
            self.is_given = unread < jobs.len();
            pool.put_back(jobs.split_off(jobs.len().saturating_sub(unread).max(1)));
        }
        Ok(())
    }

    /// Gives the worker tasks ahead: few, unless they are quick.
    fn fill(&mut self) {
        let Self { seat: Seat { pool, worker: Some(worker), .. }, jobs, .. } = self else { return };
        if jobs.front().is_some_and(|first| !worker.takes_ahead(&first.work.frame)) {
            return;
        }
        let most = match worker.pace {
            _ if pool.has_no_clock.load(Ordering::Relaxed) => 1,
            Some(pace) => (AHEAD.as_nanos() / pace.as_nanos().max(1)).clamp(1, AHEAD_MAX) as usize,
            None => 1,
        };
        let (most, mut given) = (most.min(worker.tasks_left.unwrap_or(most)), jobs.len());
        pool.take_ahead(most.saturating_sub(given), self.runtime, jobs);
        while let Some(job) = jobs.get(given)
            && worker.takes_ahead(&job.work.frame)
            && worker.post(&job.work.frame)
        {
            given += 1;
        }
        pool.put_back(jobs.split_off(given));
    }

    /// Says whether the worker was gone before it began the first task. Those behind it go back.
    fn was_missed(&mut self, broken: &Broken) -> bool {
        let unread = match &mut self.seat.worker {
            Some(_) if !self.is_given => 1,
            Some(worker) => worker.take_back().unwrap_or(0),
            None => return false,
        };
        let begun = self.jobs.len().saturating_sub(unread);
        self.seat.pool.put_back(self.jobs.split_off(begun.max(1)));
        // Whoever waits for what it may have begun besides is told that the worker is gone.
        self.jobs.truncate(1);
        begun == 0 && matches!(broken, Broken::Ended)
    }

    /// Gives up the first task: the worker that runs it is killed, those behind it go back.
    fn give_up(&mut self) {
        // What was answered before the rest was taken back is there the second time.
        for _ in 0..2 {
            if self.catch_up() {
                return;
            }
            let unread = match (&mut self.seat.worker, self.jobs.front()) {
                (Some(worker), Some(own)) if worker.takes_ahead(&own.work.frame) => {
                    worker.take_back()
                }
                // Of a long one it may have got a part.
                _ => None,
            };
            let Some(unread) = unread else { break };
            self.seat.pool.put_back(self.jobs.split_off(self.jobs.len().saturating_sub(unread)));
            match self.jobs.len() {
                // It was among those that nobody had begun.
                0 => return,
                1 => break,
                _ => {}
            }
        }
        self.seat.worker = None;
        self.jobs.clear();
    }

    /// Hears what the worker said meanwhile; tells whether that was an answer to the first task.
    fn catch_up(&mut self) -> bool {
        loop {
            match self.hear() {
                Ok(Some(_)) => return true,
                Ok(None) => {}
                Err(_) => return false,
            }
            let worker = self.seat.worker.as_mut();
            if !worker.is_some_and(|worker| worker.listen_now().unwrap_or(false)) {
                return false;
            }
        }
    }

    /// Lets the next one lead, if there is one.
    fn pass_on(&mut self) {
        if let Err(broken) = self.hear() {
            self.was_missed(&broken);
            self.seat.worker = None;
            if let Some(reply) = self.jobs.pop_front().and_then(|job| job.reply) {
                let broken = failed(format!("its worker is none: {broken:?}"));
                drop(reply.send(Turn::Came(Err(broken))));
            }
        }
        self.measure();
        self.fill();
        let first = self.jobs.front_mut();
        let Some(reply) = first.and_then(|first| first.reply.take()) else { return };
        let (seat, jobs) = (self.seat.moved(), mem::take(&mut self.jobs));
        let line = Self { seat, jobs, is_given: true, answered: 0, ..*self };
        // Where nobody waits for it any more, it is given up when it is dropped.
        drop(reply.send(Turn::Lead(line)));
    }

    /// Looks at how long a task takes.
    fn measure(&mut self) {
        let (Some(worker), Some(answered)) = (&mut self.seat.worker, NonZero::new(self.answered))
        else {
            return;
        };
        worker.forget_said();
        let now = Instant::now();
        let took = (now.duration_since(self.since) / answered.get()).min(LATE);
        worker.pace = Some(worker.pace.map_or(took, |before| (before + took) / 2));
        self.since = now;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Whoever leads takes what it came to with it, and is then the first no more.
        if self.jobs.front().is_some_and(|first| first.reply.is_none()) {
            self.give_up();
        }
        self.pass_on();
    }
}

fn tell(work: &Work, frame: &Frame) -> Result<(), Broken> {
    let line = frame.header().map_err(Broken::Garbage)?;
    // A listener that panics must not take the tasks of others with it.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work.tell(&line))) {
        task::let_go(panic);
    }
    Ok(())
}
