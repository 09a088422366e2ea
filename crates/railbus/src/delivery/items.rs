//! Deliveries that are handled together, each with an outcome of its own.

use super::{handed::Delivery, outcome::Outcome};
use crate::{
    error::{BoxError, Error, ErrorKind},
    event::Event,
};
use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// The deliveries of one batch, and what was decided of each by itself.
#[derive(Clone, Debug)]
pub(crate) struct Items(Arc<[Slot]>);

#[derive(Debug)]
struct Slot {
    delivery: Delivery,
    outcome: Mutex<Option<Outcome>>,
}

impl Items {
    pub(crate) fn new(deliveries: impl IntoIterator<Item = Delivery>) -> Self {
        let slot = |delivery| Slot { delivery, outcome: Mutex::new(None) };
        Self(deliveries.into_iter().map(slot).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn delivery(&self, place: usize) -> Option<&Delivery> {
        self.0.get(place).map(|slot| &slot.delivery)
    }

    pub(crate) fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.0.iter().map(|slot| &slot.delivery)
    }

    /// Decides of one item, whatever becomes of the others.
    pub(crate) fn decide(&self, place: usize, outcome: Outcome) {
        if let Some(slot) = self.0.get(place) {
            *slot.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }
    }

    /// Returns the event that stands for all of them: of a conversation if they all are of one.
    pub(crate) fn stand_in(&self) -> Event {
        let batch = Event::new("batch");
        let mut conversations = self.deliveries().map(|d| d.event.correlation_id());
        let first = conversations.next();
        match first.filter(|first| conversations.all(|other| other == *first)) {
            Some(conversation) => batch.correlation(conversation).into(),
            None => batch.into(),
        }
    }

    /// Returns what becomes of each: what was decided of it by itself, else what was of the batch.
    pub(crate) fn end(&self, all: Outcome) -> Vec<Outcome> {
        let own = |slot: &Slot| slot.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        let own: Vec<_> = self.0.iter().map(own).collect();
        let mut all = Shared::of(all, own.iter().filter(|own| own.is_none()).count());
        own.into_iter().map(|own| own.unwrap_or_else(|| all.one())).collect()
    }
}

/// An outcome that several items share.
enum Shared {
    Failed(Arc<BoxError>),
    Once(Option<Outcome>),
    Other(Outcome),
}

impl Shared {
    fn of(outcome: Outcome, times: usize) -> Self {
        match outcome {
            outcome if times < 2 => Self::Once(Some(outcome)),
            Outcome::Failed(error) => Self::Failed(Arc::new(error)),
            other => Self::Other(other),
        }
    }

    fn one(&mut self) -> Outcome {
        let undecided = || {
            let why = "a batch ended without an outcome of each of its events";
            Outcome::Failed(Box::new(Error::new(ErrorKind::Internal, "batch", why)))
        };
        match self {
            Self::Failed(error) => Outcome::Failed(Box::new(OfBatch(Arc::clone(error)))),
            Self::Once(outcome) => outcome.take().unwrap_or_else(undecided),
            Self::Other(outcome) => match outcome {
                Outcome::Done => Outcome::Done,
                Outcome::Skip => Outcome::Skip,
                Outcome::Retry(wait) => Outcome::Retry(*wait),
                Outcome::Nacked(nack) => Outcome::Nacked(nack.clone()),
                Outcome::DeadLetter(reason) => Outcome::DeadLetter(reason.clone()),
                Outcome::Replied(reply) => Outcome::Replied(reply.copy()),
                Outcome::Failed(_) | Outcome::Pending(_) => undecided(),
            },
        }
    }
}

/// An error that all items of a batch share: it reads as the error itself does.
#[derive(Debug)]
pub(super) struct OfBatch(Arc<BoxError>);

impl OfBatch {
    /// Returns the error itself.
    pub(super) fn inner(&self) -> &(dyn StdError + 'static) {
        &**self.0
    }
}

impl fmt::Display for OfBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for OfBatch {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}
