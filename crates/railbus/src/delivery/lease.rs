//! Settling a delivery by hand.

use crate::error::{Error, ErrorKind, Result};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// What a handler that settles by hand asks of the engine, and who is told what came of it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) hand: ByHand,
    pub(crate) told: Told,
}

/// Who waits for what the store says.
pub(crate) type Told = oneshot::Sender<Result<()>>;

#[derive(Debug)]
pub(crate) enum ByHand {
    Ack,
    Nack(Nack),
    Extend,
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
/// Settling takes it by value, so that nothing is settled twice:
///
/// ```compile_fail,E0382
/// use railbus::delivery::{Lease, Nack};
///
/// async fn twice(lease: Lease) {
///     lease.ack();
///     lease.nack(Nack::default());
/// }
/// ```
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
pub struct Lease(mpsc::UnboundedSender<Asked>);

impl Lease {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Asked>) {
        // It is asked for one thing after another, each of which is waited for or is the last.
        let (ask, asked) = mpsc::unbounded_channel();
        (Self(ask), asked)
    }

    /// Settles the delivery as handled, whether or not what is returned is awaited.
    ///
    /// Awaited, it tells whether the store took it: the event may have become another's, if the
    /// lease ran out while the handler hung.
    pub fn ack(self) -> Settling {
        self.ask(ByHand::Ack)
    }

    /// Gives the event back once the handler is through, to be tried again, whether or not what is
    /// returned is awaited. Awaited, it tells whether the event was still this delivery's.
    pub fn nack(self, nack: Nack) -> Settling {
        self.ask(ByHand::Nack(nack))
    }

    /// Makes the lease last anew and tells whether the event is still this delivery's: for a look
    /// before what can't be undone. Leases are renewed by themselves while a handler works.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, delivery::Lease};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::open("memory:").await?;
    /// let pay = async |lease: Lease| {
    ///     lease.extend().await?; // still ours
    ///     println!("paid");
    ///     lease.ack().await
    /// };
    /// bus.on("order.placed").group("billing").manual().run(pay).await?;
    /// bus.publish(Event::new("order.placed")).await?;
    /// bus.idle().await?;
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Returns a stale error if the lease was lost, else what the backend says.
    pub async fn extend(&self) -> Result<()> {
        self.ask(ByHand::Extend).await
    }

    fn ask(&self, hand: ByHand) -> Settling {
        let (told, tells) = oneshot::channel();
        // The engine stopped listening only if the delivery was given up: then this says so.
        drop(self.0.send(Asked { hand, told }));
        Settling(tells)
    }
}

/// A settlement by hand on its way; awaited, it tells what the store said.
///
/// It goes its way whether or not it is awaited, and a handler may end with it.
///
/// # Examples
/// ```
/// use railbus::delivery::{Lease, Settling};
///
/// async fn ack(lease: Lease) -> railbus::Result<()> {
///     let settling: Settling = lease.ack();
///     settling.await
/// }
/// ```
#[derive(Debug)]
pub struct Settling(oneshot::Receiver<Result<()>>);

impl Future for Settling {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let said = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(said.unwrap_or_else(|_| {
            let why = "the delivery was given up before it was settled";
            Err(Error::new(ErrorKind::Stale, "settle", why))
        }))
    }
}
