//! What a handler decided about a delivery.

use super::{
    lease::{Nack, Settling},
    reply::Reply,
};
use crate::{
    error::{BoxError, Error, ErrorKind},
    event::Event,
    task::let_go,
};
use std::{any::Any, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What a handler decided about a delivery.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, delivery::Outcome};
/// use std::time::Duration;
///
/// let bus = Bus::new();
/// let decide = |event: &Event| match event.get::<u32>("lines") {
///     None => Outcome::DeadLetter("an order has lines".into()),
///     Some(0) => Outcome::Skip,
///     Some(1..100) => Outcome::Done,
///     Some(_) => Outcome::Retry(Duration::from_secs(60)), // not now
/// };
/// bus.on("order.placed").run(decide).now()?;
/// let report = bus.emit(Event::new("order.placed"))?;
/// assert_eq!(report.failures[0].error, "an order has lines");
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
#[derive(Debug)]
pub enum Outcome {
    /// Handled.
    Done,
    /// Not for this handler after all; counts as unmatched, never as a failure.
    Skip,
    /// Failed; the policy decides what follows.
    Failed(BoxError),
    /// Wants to be called again after this time, whatever the policy's waits; the policy's number
    /// of attempts still holds.
    Retry(Duration),
    /// Was given back by hand: comes again after the delay, for the reason given.
    Nacked(Nack),
    /// Can never succeed: goes to the dead letters for this reason.
    DeadLetter(String),
    /// Handled, and this is the answer to who asked.
    Replied(Reply),
    /// Is decided later, by a batch that is being gathered.
    #[doc(hidden)]
    Pending(Pending),
}

/// An outcome to come, and the room that its event takes until then.
#[doc(hidden)]
#[derive(Debug)]
pub struct Pending {
    decided: oneshot::Receiver<Outcome>,
    room: OwnedSemaphorePermit,
}

impl Pending {
    pub(crate) fn new(decided: oneshot::Receiver<Outcome>, room: OwnedSemaphorePermit) -> Self {
        Self { decided, room }
    }
}

impl Outcome {
    /// Waits until it is decided.
    pub(crate) async fn decided(self) -> Self {
        let Self::Pending(Pending { decided, room }) = self else { return self };
        let outcome = decided.await.unwrap_or_else(|_| undecided());
        drop(room);
        outcome
    }
}

/// Returns the failure of an event whose batch is gone.
pub(crate) fn undecided() -> Outcome {
    let why = "the batch ended without an outcome";
    Outcome::Failed(Box::new(Error::new(ErrorKind::Handler, "handler", why)))
}

/// What a handler may return: nothing, a `Result` with any error, or an [`Outcome`].
///
/// # Examples
/// ```
/// use railbus::{BoxError, delivery::{IntoOutcome, Outcome}};
///
/// assert!(matches!(().into_outcome(), Outcome::Done));
/// assert!(matches!(Err::<(), _>("no").into_outcome(), Outcome::Failed(_)));
/// assert!(matches!(Ok::<_, BoxError>(Outcome::Skip).into_outcome(), Outcome::Skip));
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    label = "not an outcome",
    note = "it returns (), Result<(), E> or Result<Outcome, E> with any error, or Outcome",
    note = "nobody would take a value: end with `;`, or publish it as an event; who answers a request returns Reply::of(value)"
)]
pub trait IntoOutcome {
    /// Whether it answers who asked, which the subscription sends on.
    const REPLIES: bool = false;

    /// Turns the value into an outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Done
    }
}

/// What was settled by hand is decided, whatever comes of it.
impl IntoOutcome for Settling {
    fn into_outcome(self) -> Outcome {
        Outcome::Done
    }
}

/// What a function returns: a way to name `!`, which has no name of its own yet.
///
/// # Examples
/// ```
/// use railbus::delivery::Returns;
///
/// fn seven() -> <fn() -> u8 as Returns>::Returned {
///     7
/// }
/// assert_eq!(seven(), 7_u8);
/// ```
#[doc(hidden)]
pub trait Returns {
    /// What it returns.
    type Returned;
}

impl<R> Returns for fn() -> R {
    type Returned = R;
}

/// A handler that is still a `todo!()`, or ends in a panic or a loop.
#[diagnostic::do_not_recommend]
impl IntoOutcome for <fn() -> ! as Returns>::Returned {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl IntoOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<E: Into<BoxError>> IntoOutcome for Result<(), E> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(()) => Outcome::Done,
            Err(e) => Outcome::Failed(e.into()),
        }
    }
}

impl IntoOutcome for Reply {
    const REPLIES: bool = true;

    fn into_outcome(self) -> Outcome {
        Outcome::Replied(self)
    }
}

impl<E: Into<BoxError>> IntoOutcome for Result<Reply, E> {
    const REPLIES: bool = true;

    fn into_outcome(self) -> Outcome {
        self.map_or_else(|e| Outcome::Failed(e.into()), Outcome::Replied)
    }
}

impl<E: Into<BoxError>> IntoOutcome for Result<Outcome, E> {
    fn into_outcome(self) -> Outcome {
        self.unwrap_or_else(|e| Outcome::Failed(e.into()))
    }
}

/// What a handler returns that uses `?` on different errors.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, done};
///
/// let bus = Bus::new();
/// bus.on("number")
///     .run(|event: &Event| {
///         let text: String = event.payload()?;
///         let _number: u32 = text.parse()?;
///         done()
///     })
///     .now()?;
/// let report = bus.emit(Event::new("number").payload("x"))?;
/// assert_eq!(report.failures[0].error, "invalid digit found in string");
/// # Ok::<(), railbus::Error>(())
/// ```
pub type Handled = Result<(), BoxError>;

/// Ends a handler well: an `Ok(())` whose error type need not be told.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, done};
///
/// let bus = Bus::new();
/// let read = |event: &Event| {
///     let _number: u32 = event.payload::<String>()?.parse()?;
///     done()
/// };
/// bus.on("number").run(read).now()?;
/// assert!(bus.emit(Event::new("number").payload("7"))?.failures.is_empty());
/// # Ok::<(), railbus::Error>(())
/// ```
///
/// # Errors
/// Never.
pub fn done() -> Handled {
    Ok(())
}

/// An error of a handler, told with the event it happened to.
#[must_use]
pub(crate) fn of_event(error: Error, event: &Event) -> BoxError {
    Box::new(error.with("event", event.id()))
}

/// Returns the failure that a panic is, and lets go of what it carries.
pub(crate) fn contained(what: &str, panic: Box<dyn Any + Send>) -> Outcome {
    let outcome = panicked(what, &*panic);
    let_go(panic);
    outcome
}

/// Returns the failure that a panic is.
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> Outcome {
    let error = Error::new(ErrorKind::Handler, "handler", format!("{what}: {}", said(panic)));
    Outcome::Failed(Box::new(error))
}

/// Returns what a panic says.
fn said(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Returns what a panic says, and lets go of what it carries.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = said(&*panic).to_owned();
    let_go(panic);
    text
}
