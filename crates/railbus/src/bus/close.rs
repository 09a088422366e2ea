//! Closing a bus: nothing new starts, what runs finishes.

use super::{
    open::{Bus, Inner},
    table::Phase,
};
use crate::{context, error::Result, task};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{runtime::Handle, time::Instant};
#[cfg(feature = "webhook")]
use tokio_util::sync::CancellationToken;

/// How long [`Bus::close`] waits for handlers.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

impl Bus {
    /// Closes the bus: nothing new starts, what runs finishes, for at most 30 seconds and the grace
    /// of [`Bus::close_within`].
    ///
    /// # Errors
    /// As [`Bus::close_within`].
    pub async fn close(&self) -> Result<()> {
        self.close_within(CLOSE_WITHIN).await
    }

    /// Closes the bus: nothing new is fetched, handlers in flight finish and may still publish;
    /// what has not finished at the deadline is given back. Closing again waits for the first.
    ///
    /// The deadline is for all together, the backend included. What a group has not finished by
    /// then is aborted: it has up to 2 s more to end, and the backend up to 2 s to take it back.
    ///
    /// Inside a handler it returns at once and the closing goes on without it, since it can't wait
    /// for the delivery it is called from.
    ///
    /// # Errors
    /// Returns an error if the backend can't let go.
    ///
    /// # Cancel safety
    /// If it is dropped, the bus stays closed to new events; call it again to finish.
    pub async fn close_within(&self, deadline: Duration) -> Result<()> {
        let draining = self.drain();
        if context::depth() == 0 {
            return draining.finish(deadline).await;
        }
        let runtime = Handle::try_current().ok().or_else(|| self.0.runtime());
        let finishing = async move {
            if let Err(error) = draining.finish(deadline).await {
                tracing::warn!(%error, "the bus did not close well");
            }
        };
        match runtime {
            Some(runtime) => drop(runtime.spawn(finishing)),
            None => task::aside("railbus-close", finishing)?,
        }
        Ok(())
    }

    /// Returns what tells, for a handler that waits for something else, that the bus closes.
    #[cfg(feature = "webhook")]
    pub(crate) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    /// Stops fetching and publishing from outside, and returns at once.
    pub fn drain(&self) -> Draining {
        self.0.table.enter(Phase::Draining);
        self.0.closing.cancel();
        if let Ok(members) = self.0.members.try_lock() {
            members.stop();
        }
        if let Some(beside) = self.0.beside.get() {
            beside.stop();
        }
        Draining(self.clone())
    }
}

impl Inner {
    /// Waits for what runs and gives back the rest at the deadline.
    async fn settle(&self, deadline: Duration) {
        // One deadline for all: a subscription that hangs while it opens holds this lock.
        let began = Instant::now();
        let rest = || deadline.saturating_sub(began.elapsed());
        if let Some(mut members) = task::within(deadline, self.members.lock()).await {
            members.stop();
            members.drain(rest()).await;
        }
        for tasks in [&self.tasks, &self.retries] {
            tasks.close();
            let _ = task::within(rest(), tasks.wait()).await;
        }
    }

    /// Returns work of a task of the bus's own, which ends at its next await once the time for
    /// closing is up: a handler that never returns must not keep the bus.
    pub(super) fn bounded<F: Future>(&self, work: F) -> impl Future<Output = ()> + use<F> {
        let aborted = self.aborting.clone();
        async move { drop(aborted.run_until_cancelled_owned(work).await) }
    }
}

/// A bus that stopped fetching.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, bus::Draining};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let draining: Draining = bus.drain();
/// assert!(bus.publish(Event::new("tick")).await.is_err(), "nothing new begins");
/// let settled = draining.settle(Duration::from_secs(5)).await;
/// let groups = bus.keeper()?.groups().await?; // what it keeps can still be asked
/// settled.finish(Duration::from_secs(5)).await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "draining goes on when finished"]
pub struct Draining(Bus);

impl Draining {
    /// Waits for what runs and gives back the rest at the deadline; the backend stays open, so
    /// that what is stored can still be asked.
    pub async fn settle(self, deadline: Duration) -> Self {
        let inner = Arc::clone(&self.0.0);
        match inner.runtime.get() {
            // Its members' clock is that of the runtime they run on.
            Some(runtime) if Handle::try_current().is_err() => {
                let settling = Arc::clone(&inner);
                let settled = runtime.spawn(async move { settling.settle(deadline).await });
                if settled.await.is_err() {
                    tracing::warn!("the bus outlived its runtime: what ran is gone");
                }
            }
            _ => inner.settle(deadline).await,
        }
        self
    }

    /// Waits for what runs, gives back the rest at the deadline and closes the backend.
    ///
    /// # Errors
    /// Returns an error if the backend can't let go.
    pub async fn finish(self, deadline: Duration) -> Result<()> {
        let began = Instant::now();
        let rest = || deadline.saturating_sub(began.elapsed());
        let inner = Arc::clone(&self.0.0);
        let beside = inner.beside.get();
        let first = match beside {
            Some(beside) => beside.finish(deadline).await,
            None => Ok(()),
        };
        let Self(bus) = self.settle(rest()).await;
        bus.0.table.enter(Phase::Closed);
        // What did not end in time is not called again, and ends where it waits.
        bus.0.table.clear();
        bus.0.aborting.cancel();
        // Nothing brings them replies any more.
        bus.0.asking.end();
        let own = bus.0.backend.close(rest()).await;
        let last = match beside {
            Some(beside) => beside.finish_last(rest()).await,
            None => Ok(()),
        };
        first.and(own).and(last)
    }
}
