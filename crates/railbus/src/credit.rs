//! How much may be fetched, where somebody outside the engine says so.

use async_trait::async_trait;

/// Says how many events may be fetched now, and lets who wants more wait: a limit of a rate, a breaker
/// that is open.
///
/// It is asked before each fetch of a group that has it ([`On::credit`](crate::bus::On::credit)), so
/// nothing is claimed that may not be worked on yet, and no lease runs while it waits. One is asked from
/// many tasks at once if several groups have it.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, credit::Credit};
/// use std::sync::Arc;
/// use tokio::sync::watch;
///
/// /// Lets through while it is open.
/// struct Door(watch::Sender<bool>);
///
/// #[async_trait::async_trait]
/// impl Credit for Door {
///     async fn take(&self, most: usize) -> usize {
///         let _ = self.0.subscribe().wait_for(|open| *open).await;
///         most
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (bus, door) = (Bus::open("memory:").await?, Arc::new(Door(watch::Sender::new(false))));
/// let on = bus.on("order.placed").group("billing").credit(door.clone());
/// on.run(async |_: Event| {}).await?;
/// bus.publish(Event::new("order.placed")).await?;
/// # tokio::task::yield_now().await;
/// assert_eq!(bus.counters().delivered.get(), 0);
/// door.0.send_replace(true);
/// bus.idle().await?;
/// assert_eq!(bus.counters().delivered.get(), 1);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Credit: Send + Sync + 'static {
    /// Waits until at least one event may be fetched, takes credit for as many as may be, and returns how
    /// many: at most `most`, which is at least 1.
    ///
    /// # Cancel safety
    /// If it is dropped, since the group stops, nothing may be taken.
    async fn take(&self, most: usize) -> usize;

    /// Tells how many events came of the credit that was `taken`: fewer if there were no more, none if
    /// the fetch failed. Called once for each [`Credit::take`] that returned; must not block (default:
    /// does nothing).
    fn came(&self, taken: usize, came: usize) {
        let _ = (taken, came);
    }
}
