//! What follows when a handler fails.

use super::{items::OfBatch, outcome::Outcome};
use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind},
    retry::Retry,
    step::Failure,
    task::let_go,
};
use serde::{Deserialize, Serialize};
use std::{
    error::Error as StdError,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

/// What is done with an event that failed for good.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Retry, delivery::Then};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let fails = async |_: Event| Err::<(), _>("no");
/// let on = bus.on("tick").group("g").retry(Retry::attempts(1)).then(Then::Drop);
/// on.run(fails).await?;
/// bus.publish(Event::new("tick")).await?;
/// bus.idle().await?;
/// assert!(bus.keeper()?.letters(&Default::default()).await?.is_empty());
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
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
///
/// # Examples
/// ```
/// use railbus::{Retry, delivery::{Class, Decision, End, FailurePolicy, Outcome, Then}};
///
/// let policy = FailurePolicy {
///     retry: Retry::attempts(2),
///     then: Then::DeadLetter,
///     classify: |error| match error.is::<std::num::ParseIntError>() {
///         true => Class::Permanent,
///         false => Class::Transient,
///     },
/// };
/// let failed = |error: &str| Outcome::Failed(error.into());
/// assert!(matches!(policy.decide(failed("busy"), 1), Decision::Again(_, why) if why == "busy"));
/// assert_eq!(policy.decide(failed("busy"), 2), Decision::End(End::Dead("busy".into())));
/// assert_eq!(policy.last("gone".into()), Decision::End(End::Dead("gone".into())));
/// assert!(!policy.is_exhausted(2) && policy.is_exhausted(3));
///
/// assert_eq!(FailurePolicy::for_group().retry.max_attempts(), 5);
/// assert_eq!(FailurePolicy::for_broadcast().then, Then::Drop);
/// ```
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
            Outcome::Done | Outcome::Replied(_) => Decision::End(End::Done),
            Outcome::Skip => Decision::End(End::Unmatched),
            // Who calls handlers of batches waits for what they decide.
            Outcome::Pending(_) => self.last("it was not decided".into()),
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
                let decision = match self.retry.wait_after(attempt) {
                    Some(wait) if self.class_of(&*e) == Class::Transient => {
                        Decision::Again(wait, reason)
                    }
                    _ => self.last(reason),
                };
                let_go(e);
                decision
            }
        }
    }

    /// Tells whether no further try follows if try `attempt` failed with this error.
    pub(crate) fn gives_up(&self, error: &(dyn StdError + 'static), attempt: u32) -> bool {
        self.retry.wait_after(attempt).is_none() || self.class_of(error) == Class::Permanent
    }

    /// Classifies an error; what makes the user's code panic is not tried again.
    fn class_of(&self, error: &(dyn StdError + 'static)) -> Class {
        let error = error.downcast_ref::<OfBatch>().map_or(error, OfBatch::inner);
        // What Railbus itself says has a kind, such as that of a layer which ended the try in time.
        let kind = error.downcast_ref::<Error>().map(|error| error.kind().name());
        let covers = |kind| self.retry.covers(kind, error);
        let classify = AssertUnwindSafe(|| match covers("error") || kind.is_some_and(covers) {
            true => (self.classify)(error),
            false => Class::Permanent,
        });
        catch_unwind(classify).unwrap_or_else(|panic| {
            let_go(panic);
            Class::Permanent
        })
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
    let undecodable = error.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::Decode);
    match undecodable || Failure::find(error).is_some() {
        true => Class::Permanent,
        false => Class::Transient,
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
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, Retry, delivery::Try};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let twice = Retry::attempts(2).backoff_factor(Duration::from_millis(1));
/// let on = bus.on("tick").group("g").named("fails").retry(twice);
/// on.run(async |_: Event| Err::<(), _>("no")).await?;
/// bus.publish(Event::new("tick")).await?;
/// bus.idle().await?;
/// let letters = bus.keeper()?.letters(&Default::default()).await?;
/// let tries: Vec<(u32, &str)> =
///     letters[0].history.iter().map(|t: &Try| (t.attempt, t.reason.as_str())).collect();
/// assert_eq!(tries, [(1, "no"), (2, "no")]);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
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
