//! Workers that steps share.

use super::{
    hand::{Broke, Hand},
    task::Ask,
};
use crate::{step::StepResult, steps::child::Limits};
use std::{
    fmt, io,
    num::NonZero,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::available_parallelism,
};
use tokio::{
    process::Command,
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// How many processes run at once for the commands that share it (default: the cores), and how long
/// workers live on. Clones are the same.
///
/// # Examples
/// ```
/// use railbus::steps::{command::{CommandStep, Mode}, worker::Workers};
///
/// let workers = Workers::new(8).max_tasks_per_child(100);
/// let transform = CommandStep::new(["./transform.py"])?.mode(Mode::Worker).workers(&workers);
/// let check = CommandStep::new(["./check.py"])?.workers(&workers); // of both, 8 at once
/// # Ok::<(), railbus::Error>(())
/// ```
#[derive(Clone)]
pub struct Workers {
    pool: Arc<Pool>,
}

struct Pool {
    max: usize,
    max_tasks: Option<u32>,
    permits: Arc<Semaphore>,
    // Those without a task, the one that waited longest first, each with the command it runs.
    idle: Mutex<Vec<(String, Hand)>>,
}

impl Default for Workers {
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, NonZero::get))
    }
}

impl Workers {
    /// Allows `max_workers` processes at once; 0 is taken as 1.
    #[must_use]
    pub fn new(max_workers: usize) -> Self {
        Self::of(max_workers.clamp(1, Semaphore::MAX_PERMITS), None)
    }

    /// Replaces a worker after so many tasks (default: it lives on); 0 is taken as 1.
    #[must_use]
    pub fn max_tasks_per_child(self, tasks: u32) -> Self {
        Self::of(self.pool.max, Some(tasks.max(1)))
    }

    fn of(max: usize, max_tasks: Option<u32>) -> Self {
        let permits = Arc::new(Semaphore::new(max));
        Self { pool: Arc::new(Pool { max, max_tasks, permits, idle: Mutex::default() }) }
    }

    /// Waits until one more process may run.
    pub(in crate::steps) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.pool.permits).acquire_owned().await.ok()
    }

    /// Gives a worker for `command`, named `key`, a task. The caller has a permit.
    ///
    /// # Errors
    /// Returns an error if there is no worker and none can be started, else what became of one
    /// that did not answer, and the tail of its stderr.
    ///
    /// # Cancel safety
    /// If it is dropped, the worker is killed.
    pub(in crate::steps) async fn work(
        &self,
        key: &str,
        command: &mut Command,
        ask: Ask<'_>,
        limits: Limits,
    ) -> io::Result<Result<StepResult, (Broke, String)>> {
        let mut hand = match self.pool.pick(key) {
            Some(hand) => hand,
            None => self.start(command).await?,
        };
        match hand.work(ask, limits).await {
            Ok(came) => {
                self.pool.put(key, hand);
                Ok(Ok(came))
            }
            Err(broke) => Ok(Err((broke, hand.kill().await))),
        }
    }

    async fn start(&self, command: &mut Command) -> io::Result<Hand> {
        let hand = Hand::start(command).await?;
        let (ended, pool) = (hand.ended(), Arc::downgrade(&self.pool));
        // One that dies without a task is not left over as a zombie.
        tokio::spawn(async move {
            ended.await;
            if let Some(pool) = Weak::upgrade(&pool) {
                pool.idle().retain(|(_, hand)| !hand.has_ended());
            }
        });
        Ok(hand)
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Vec<(String, Hand)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a worker of that name that can be given a task. If there is none, one of another name
    /// makes room.
    fn pick(&self, key: &str) -> Option<Hand> {
        let runtime = Handle::try_current().ok()?.id();
        let mut idle = self.idle();
        while let Some(at) = idle.iter().rposition(|(of, _)| of == key) {
            let (_, hand) = idle.remove(at);
            if hand.is_ready(runtime) {
                return Some(hand);
            }
        }
        // The caller's permit is among those that are taken.
        let busy = self.max - self.permits.available_permits();
        let over = (idle.len() + busy).saturating_sub(self.max).min(idle.len());
        let over: Vec<_> = idle.drain(..over).collect();
        drop(idle);
        over.into_iter().for_each(|(_, hand)| hand.retire());
        None
    }

    fn put(&self, key: &str, hand: Hand) {
        match self.max_tasks {
            Some(max) if hand.tasks >= max => hand.retire(),
            _ => self.idle().push((key.to_owned(), hand)),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.idle().drain(..).for_each(|(_, hand)| hand.retire());
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pool { max, max_tasks, .. } = &*self.pool;
        f.debug_struct("Workers")
            .field("max_workers", max)
            .field("max_tasks_per_child", max_tasks)
            .finish()
    }
}
