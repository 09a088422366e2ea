//! What is held back: handed out when it is due, or withdrawn before.

use super::{
    open::{Bus, able},
    table::Phase,
};
use crate::{context, error::Result, event::Event};
use futures_util::FutureExt;
use std::time::Duration;
use tokio::time::{Instant, sleep};

impl Bus {
    /// Withdraws an event that was published with a delay and is not due yet, by its id: nobody gets
    /// it. Tells whether there was one; false if it is due by now, or there never was any.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// bus.on("basket.abandoned").group("mail").run(async |_: Event| panic!("too late")).await?;
    /// let reminder = Event::new("basket.abandoned").delay(Duration::from_secs(3600)).payload("b-1");
    /// bus.publish(&reminder).await?;
    /// assert!(bus.withdraw(reminder.id()).await?, "they came back and paid");
    /// assert!(!bus.withdraw(reminder.id()).await?);
    /// bus.idle().await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Returns an unsupported error that names the backends that can if this one can't, if the bus is
    /// closed, or what the backend says.
    ///
    /// # Cancel safety
    /// If it is dropped, the event may or may not have been withdrawn.
    pub async fn withdraw(&self, event_id: &str) -> Result<bool> {
        // As with publishing: handlers are not through with what they began while it drains.
        if !(context::depth() > 0 && self.phase() == Phase::Draining) {
            self.check_open("withdraw")?;
        }
        let capability = self.capability();
        if !capability.withdraws && !self.0.inline {
            let able = able(|c| c.withdraws);
            let error = capability.refuse("withdraw", "withdraws no events", &able);
            return Err(error.with("event", event_id));
        }
        let here = self.0.delayed.decide(event_id);
        let stored = capability.withdraws && self.0.backend.withdraw(event_id).await?;
        // A group that had it already had it when it was due.
        let withdrawn = stored || here.are_early();
        if withdrawn {
            here.withdraw();
        }
        Ok(withdrawn)
    }

    /// Hands the event to the broadcast subscriptions here once its delay has passed, unless it is
    /// withdrawn, or the bus closed, before. It was published after `began`.
    pub(super) fn dispatch_after(&self, began: Instant, delay: Duration, event: &Event) {
        // Without one it was refused.
        let Some(runtime) = self.0.runtime() else { return };
        let (bus, event) = (self.downgrade(), event.clone());
        let closing = self.0.closing.clone();
        let (number, told) = self.0.delayed.hold(event.id(), after(began, delay));
        let withdrawn = told.map(|told| told == Ok(true)).shared();
        let waits = async move {
            let due = sleep(delay);
            tokio::select! {
                biased;
                () = due => {}
                true = withdrawn.clone() => return,
                () = closing.cancelled() => {
                    if let Some(bus) = bus.upgrade() {
                        bus.0.delayed.let_go(event.id(), number);
                    }
                    return context::span(&event)
                        .in_scope(|| tracing::warn!("a delayed event ended with its bus"));
                }
            }
            // Held by nobody any more: then nobody is left here whom it could be handed to.
            let Some(bus) = bus.upgrade() else { return };
            if !bus.0.delayed.let_go(event.id(), number) && withdrawn.await {
                return;
            }
            bus.dispatch(&bus.0.table.now(), &event).await;
        };
        self.0.retries.spawn_on(self.0.bounded(waits), &runtime);
    }
}

/// Returns the time after a delay, which may be too long for any clock.
fn after(began: Instant, delay: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
    began.checked_add(delay).unwrap_or(began + FAR)
}
