//! Settling a delivery by hand.

use std::time::Duration;
use tokio::sync::oneshot;

/// How a delivery ended that was settled by hand.
#[derive(Debug)]
pub(crate) enum ByHand {
    Ack,
    Nack(Nack),
}

/// An explicit "not handled": when to try again, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nack {
    /// How long the event is held back (default none).
    pub delay: Duration,
    /// Why, for the history of a dead letter.
    pub reason: String,
}

/// The right to settle one delivery by hand; dropped unsettled, it is a nack "unsettled".
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Retry, delivery::{Lease, Nack}};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let settle = async |event: Event, lease: Lease| match event.get::<bool>("ready") {
///     Some(true) => lease.ack(),
///     _ => lease.nack(Nack { delay: Duration::from_secs(1), reason: "not ready".into() }),
/// };
/// bus.on("order.placed").group("billing").retry(Retry::attempts(1)).manual().run(settle).await?;
/// bus.publish(Event::new("order.placed")).await?;
/// bus.idle().await?;
/// let letters = bus.keeper()?.letters(&Default::default()).await?;
/// assert_eq!(letters[0].reason, "not ready");
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Lease(oneshot::Sender<ByHand>);

impl Lease {
    pub(crate) fn new() -> (Self, oneshot::Receiver<ByHand>) {
        let (settle, settled) = oneshot::channel();
        (Self(settle), settled)
    }

    /// Settles the delivery as handled.
    pub fn ack(self) {
        // The engine stopped listening only if the lease was lost: nothing is left to settle.
        let _ = self.0.send(ByHand::Ack);
    }

    /// Gives the event back, to be tried again.
    pub fn nack(self, nack: Nack) {
        let _ = self.0.send(ByHand::Nack(nack));
    }
}
