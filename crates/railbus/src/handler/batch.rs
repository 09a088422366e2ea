//! Many events as one argument of a handler.

use super::{call::Call, extract::FromDelivery};
use crate::{
    context::Delivering,
    delivery::{IntoOutcome, Items, Outcome, of_event},
    error::{BoxError, Error, ErrorKind},
    event::Event,
    payload::{RawPayload, Shared},
};
use serde::de::DeserializeOwned;
use std::{any::TypeId, fmt, future::Future, ops::Deref, slice, vec};

/// Several events at once, for a handler that does better with many: the argument of a subscription
/// with [`batch`](crate::bus::On::batch).
///
/// It reads as a slice of [`Item`]s, each a payload as a `T` with its event; with `Batch<Event>` the
/// items are the events. What the handler returns is the outcome of all of them, but of those that it
/// settled by itself, each by value with [`Item::settle`] or [`Item::fail`]. Each goes its own way
/// from there: it is acked, tried again or becomes a dead letter as if it had come alone, and tries
/// again are gathered into later batches. A payload that is no `T` fails by itself, and the handler
/// does not see it.
///
/// The handler runs in a [context](crate::context) that stands for the batch: what it publishes is
/// caused by that, or by an item within [`Item::within`].
///
/// # Examples
/// ```
/// use railbus::{Batch, Bus, Event, Retry};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::open("memory:").await?;
/// let store = async |numbers: Batch<u32>| {
///     println!("{} at once, {} in all", numbers.len(), numbers.iter().map(|n| **n).sum::<u32>());
///     for number in numbers {
///         if *number == 13 {
///             number.fail("unlucky");
///         }
///     }
/// };
/// let on = bus.on("number").group("sums").retry(Retry::attempts(1));
/// on.batch(100, Duration::from_millis(10)).run(store).await?;
/// for number in [7, 13] {
///     bus.publish(Event::new("number").payload(number)).await?;
/// }
/// bus.idle().await?;
/// let letters = bus.keeper()?.letters(&Default::default()).await?;
/// assert_eq!((letters.len(), &*letters[0].reason), (1, "unlucky"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Batch<T>(Vec<Item<T>>);

/// One event of a [`Batch`]: its payload as a `T`.
///
/// Settling takes it by value, so that nothing is settled twice:
///
/// ```compile_fail,E0382
/// use railbus::{Batch, Bus};
/// use std::time::Duration;
///
/// let bus = Bus::new();
/// let twice = async |numbers: Batch<u32>| {
///     for number in numbers {
///         number.fail("no");
///         number.settle(());
///     }
/// };
/// let _ = bus.on("number").group("sums").batch(100, Duration::ZERO).run(twice);
/// ```
///
/// # Examples
/// ```
/// use railbus::{Batch, Bus, Event, handler::Item};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// async fn charge(number: &Item<u32>) -> Result<(), String> {
///     assert_eq!((number.attempt(), number.event().event_type()), (1, "number"));
///     if **number > 7 { Err(format!("{number} is too much")) } else { Ok(()) }
/// }
///
/// let (bus, heard) = (Bus::open("memory:").await?, railbus::testing::Recorder::new());
/// let each = async |numbers: Batch<u32>, bus: Bus| {
///     for number in numbers {
///         let charged = charge(&number).await;
///         number.within(bus.publish(Event::new("charged"))).await?;
///         number.settle(charged);
///     }
///     railbus::done()
/// };
/// bus.on("charged").run(heard.clone()).await?;
/// bus.on("number").group("sums").batch(100, Duration::ZERO).run(each).await?;
/// bus.publish(Event::new("number").id("n-1").payload(7)).await?;
/// assert_eq!(heard.wait_for(1).await[0].causation_id(), Some("n-1"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
pub struct Item<T> {
    payload: Shared<T>,
    event: Event,
    attempt: u32,
    place: usize,
    items: Items,
}

impl<T> Item<T> {
    /// Returns the event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns which try of the event this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Gives it an outcome of its own, whatever the handler returns: what a handler of one event
    /// could return. It takes effect when the handler is through.
    pub fn settle(self, outcome: impl IntoOutcome) {
        self.items.decide(self.place, outcome.into_outcome());
    }

    /// Lets it fail, whatever the handler returns; the subscription's policy decides what follows.
    pub fn fail(self, error: impl Into<BoxError>) {
        self.items.decide(self.place, Outcome::Failed(error.into()));
    }

    /// Runs a future in the context of the event, so that what it publishes is caused by it.
    ///
    /// # Cancel safety
    /// That of the future.
    pub fn within<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<'_, T, F> {
        Delivering::new(&self.event, work)
    }
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload
    }
}

impl<T: fmt::Display> fmt::Display for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T> fmt::Debug for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Item({:?}, try {})", self.event, self.attempt)
    }
}

impl<T> Deref for Batch<T> {
    type Target = [Item<T>];

    fn deref(&self) -> &[Item<T>] {
        &self.0
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = Item<T>;
    type IntoIter = vec::IntoIter<Item<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a Item<T>;
    type IntoIter = slice::Iter<'a, Item<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> FromDelivery for Batch<T> {
    const BATCH: bool = true;
    const SINGLE: bool = false;

    fn from_delivery(call: &Call<'_>) -> Result<Self, BoxError> {
        let refuse = |why: &'static str| Error::new(ErrorKind::Unsupported, "handler", why);
        let items = call.items().ok_or_else(|| refuse("there is one event here, not a batch"))?;
        let mut batch = Vec::with_capacity(items.len());
        for (place, delivery) in items.deliveries().enumerate() {
            let event = delivery.event().clone();
            match payload_of(&event) {
                Ok(payload) => {
                    let (attempt, items) = (delivery.attempt(), items.clone());
                    batch.push(Item { payload, event, attempt, place, items });
                }
                Err(error) => items.decide(place, Outcome::Failed(of_event(error, &event))),
            }
        }
        match batch.is_empty() {
            // Each of them has failed by itself.
            true => Err(Box::new(refuse("no payload of the batch is of its type"))),
            false => Ok(Self(batch)),
        }
    }
}

fn payload_of<T: DeserializeOwned + Send + Sync + 'static>(
    event: &Event,
) -> Result<Shared<T>, Error> {
    match TypeId::of::<T>() == TypeId::of::<Event>() {
        // The events themselves are what is asked for.
        true => RawPayload::of(event.clone()).shared(),
        false => event.raw_payload().shared(),
    }
}
