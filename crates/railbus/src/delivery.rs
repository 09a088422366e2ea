//! Deliveries: an event as handed to a handler, and what becomes of it.

use crate::{
    clock::Timestamp,
    error::{BoxError, Error},
    event::Event,
    retry::Retry,
    step::Failure,
};
use serde::{Deserialize, Serialize};
use std::{
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// An event as handed to a handler. Only the engine makes one.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub(crate) event: Event,
    pub(crate) attempt: u32,
    pub(crate) group: Option<Arc<str>>,
    pub(crate) marks: Marks,
}

/// What a handler may leave behind on its delivery: the same for all copies of it. Made when it is
/// first asked for, which most handlers never do.
#[derive(Debug, Default)]
pub(crate) struct Marks(OnceLock<Arc<Made>>);

#[derive(Debug, Default)]
struct Made {
    // What settles it by hand; the handler that asks for the lease takes it.
    lease: Mutex<Option<Lease>>,
    // Whether a part of the work was tried more than once.
    retried: AtomicBool,
}

impl Clone for Marks {
    fn clone(&self) -> Self {
        Self(Arc::clone(self.made()).into())
    }
}

impl Marks {
    fn made(&self) -> &Arc<Made> {
        self.0.get_or_init(Arc::default)
    }

    pub(crate) fn leave_lease(&self, lease: Lease) {
        *self.made().lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
    }

    pub(crate) fn take_lease(&self) -> Option<Lease> {
        self.0.get()?.lease.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn retried(&self) -> bool {
        self.0.get().is_some_and(|made| made.retried.load(Relaxed))
    }
}

impl Delivery {
    /// Returns the event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns which try this is, from 1: deliveries so far and tries in place together.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Notes that a part of the work was tried more than once, so that the event counts as retried.
    pub fn note_retry(&self) {
        self.marks.made().retried.store(true, Relaxed);
    }

    pub(crate) fn take_lease(&self) -> Option<Lease> {
        self.marks.take_lease()
    }

    /// Returns the group the event was delivered to; none for a broadcast.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}

/// What a handler decided about a delivery.
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
}

/// What a handler may return: nothing, a `Result` with any error, or an [`Outcome`].
#[diagnostic::on_unimplemented(
    message = "a handler can't return `{Self}`",
    label = "not an outcome",
    note = "it returns (), Result<(), E> or Result<Outcome, E> with any error, or Outcome",
    note = "nobody would take a value: end with `;`, or publish it as an event"
)]
pub trait IntoOutcome {
    /// Turns the value into an outcome.
    fn into_outcome(self) -> Outcome;
}

impl IntoOutcome for () {
    fn into_outcome(self) -> Outcome {
        Outcome::Done
    }
}

/// What a function returns: a way to name `!`, which has no name of its own yet.
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
/// # Errors
/// Never.
pub fn done() -> Handled {
    Ok(())
}

/// What is done with an event that failed for good.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// It is kept as a dead letter, with reason and history.
    #[default]
    DeadLetter,
    /// It is let go; it counts as failed.
    Drop,
    /// The subscription's group stops fetching; the event stays unsettled.
    Stop,
}

/// What follows when a handler fails: first whether, then how often, then what is left.
#[derive(Clone)]
pub struct FailurePolicy {
    /// How often and how soon it is tried again.
    pub retry: Retry,
    /// What follows the last try.
    pub then: Then,
    /// Tells which errors are worth another try.
    pub classify: fn(&(dyn StdError + 'static)) -> Class,
}

/// Whether an error is worth another try.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Another try may succeed.
    Transient,
    /// No try will ever succeed.
    Permanent,
}

impl FailurePolicy {
    /// The policy of a group that was given none: five tries, then dead letter.
    #[must_use]
    pub fn for_group() -> Self {
        Self { retry: Retry::attempts(5), then: Then::DeadLetter, classify: classify_default }
    }

    /// The policy of a broadcast that was given none: one try, then logged.
    #[must_use]
    pub fn for_broadcast() -> Self {
        Self { retry: Retry::attempts(1), then: Then::Drop, classify: classify_default }
    }

    /// Decides what follows `outcome` of try `attempt`.
    #[must_use]
    pub fn decide(&self, outcome: Outcome, attempt: u32) -> Decision {
        match outcome {
            Outcome::Done => Decision::End(End::Done),
            Outcome::Skip => Decision::End(End::Unmatched),
            Outcome::DeadLetter(reason) => Decision::End(End::Dead(reason)),
            Outcome::Nacked(nack) => match self.retry.wait_after(attempt) {
                Some(_) => Decision::Again(nack.delay, nack.reason),
                None => self.last(nack.reason),
            },
            Outcome::Retry(wait) => match self.retry.wait_after(attempt) {
                Some(_) => Decision::Again(wait, "the handler asked to be called again".into()),
                None => self.last("the handler asked to be called again, too often".into()),
            },
            Outcome::Failed(e) => {
                let reason = crate::error::chain(&*e);
                match self.retry.wait_after(attempt) {
                    Some(wait) if self.class_of(&*e) == Class::Transient => {
                        Decision::Again(wait, reason)
                    }
                    _ => self.last(reason),
                }
            }
        }
    }

    /// Classifies an error; what makes the user's code panic is not tried again.
    fn class_of(&self, error: &(dyn StdError + 'static)) -> Class {
        let classify = AssertUnwindSafe(|| match self.retry.covers("error", error) {
            true => (self.classify)(error),
            false => Class::Permanent,
        });
        catch_unwind(classify).unwrap_or(Class::Permanent)
    }

    /// Decides about an event that came back although its last try was used up: the process died,
    /// or the lease ran out, on every one of them.
    ///
    /// Never under [`Then::Stop`]: who starts the group again wants the event tried again.
    #[must_use]
    pub fn is_exhausted(&self, attempt: u32) -> bool {
        self.then != Then::Stop && attempt > self.retry.max_attempts()
    }

    /// Ends a delivery that no further try is allowed to.
    #[must_use]
    pub fn last(&self, reason: String) -> Decision {
        match self.then {
            Then::DeadLetter => Decision::End(End::Dead(reason)),
            Then::Drop => Decision::End(End::Failed(reason)),
            Then::Stop => Decision::Stop(reason),
        }
    }
}

/// A step's [`Failure`] and a payload that can't be decoded stay as they are; all else may pass.
fn classify_default(error: &(dyn StdError + 'static)) -> Class {
    match Failure::find(error) {
        Some(_) => Class::Permanent,
        None => Class::Transient,
    }
}

impl fmt::Debug for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} then {:?}", self.retry, self.then)
    }
}

/// What the policy makes of an outcome.
#[non_exhaustive]
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// This subscription is through with the event.
    End(End),
    /// Again after the wait, for the reason given.
    Again(Duration, String),
    /// The group stops, for the reason given.
    Stop(String),
}

/// How a subscription got through with an event.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was handled.
    Done,
    /// The part of the predicate that backends don't understand rejected it.
    Unmatched,
    /// It failed for the reason given and was let go.
    Failed(String),
    /// It failed for the reason given and is a dead letter.
    Dead(String),
}

/// One failed try, as a dead letter's history keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// Which try it was, from 1.
    pub attempt: u32,
    /// When it failed.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// The name of the subscription that failed.
    pub subscription: String,
    /// Why, with all causes.
    pub reason: String,
}

mod micros {
    use super::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(t: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(t)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

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

/// An error of a handler, told with the event it happened to.
#[must_use]
pub(crate) fn of_event(error: Error, event: &Event) -> BoxError {
    Box::new(error.with("event", event.id()))
}
