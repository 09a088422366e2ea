//! Waiting until everything is through.

use super::{members::Member, open::Bus};
use crate::{
    context,
    error::{Error, ErrorKind, Result},
    task,
};
use futures_util::future::select_all;
use std::time::Duration;

/// How often broadcasts are asked for, which nothing tells of.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Bus {
    /// Waits until everything that was published so far is through: each group of this bus has
    /// settled what it wants of it, dead letters included, and each broadcast has been handled
    /// here, with its further tries. So a test can publish and then assert, on every backend.
    ///
    /// What others publish meanwhile is waited for as well, and so is what is held back.
    ///
    /// # Errors
    /// Returns an error inside a handler, which would wait for itself, if the bus is closed, what
    /// ended one of its groups, or its listening to broadcasts, by itself, or what the backend says.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event};
    /// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let (bus, seen) = (Bus::open("memory:").await?, Arc::new(AtomicU32::new(0)));
    /// let count = Arc::clone(&seen);
    /// let add = async move |_: Event| { count.fetch_add(1, Ordering::Relaxed); };
    /// bus.on("order.placed").group("billing").run(add).await?;
    /// bus.publish(Event::new("order.placed")).await?;
    /// bus.idle().await?;
    /// assert_eq!(seen.load(Ordering::Relaxed), 1);
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn idle(&self) -> Result<()> {
        if context::depth() > 0 {
            let why = "a handler that waits until the bus is idle waits for itself";
            return Err(Error::new(ErrorKind::Overloaded, "idle", why)
                .hint("wait outside of handlers, such as in a task of its own"));
        }
        loop {
            self.check_open("idle")?;
            // What is published during this look may not be in it: then it is taken again.
            let before = self.counters().published.get();
            let (groups, failures): (Vec<_>, Vec<_>) = {
                let members = self.0.members.lock().await;
                let of = |(name, member): (&String, &Member)| {
                    ((name.clone(), member.interest.clone()), Box::pin(member.failure()))
                };
                members.groups.iter().map(of).unzip()
            };
            if !groups.is_empty() {
                tokio::select! {
                    biased;
                    // Nobody here settles what is left in its group.
                    (error, ..) = select_all(failures) => return Err(error),
                    settled = self.0.backend.settled(&groups) => settled?,
                    () = self.0.aborting.cancelled() => continue,
                }
            }
            if !self.is_quiet().await? {
                task::runtime("idle")?;
                tokio::time::sleep(LOOK_EVERY).await;
            } else if self.counters().published.get() == before {
                return Ok(());
            }
        }
    }
}
