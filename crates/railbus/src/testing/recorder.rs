//! A handler that remembers.

#[cfg(feature = "testing")]
use crate::pretend;
use crate::{error::BoxError, event::Event, handler::SyncHandler};
use std::{fmt, future::Future, panic::Location, sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How long [`Recorder::wait_for`] waits.
const WAIT: Duration = Duration::from_secs(10);

/// The same in virtual time, where a month takes a moment.
#[cfg(feature = "testing")]
const WAIT_VIRTUAL: Duration = Duration::from_secs(31 * 86_400);

/// Returns how long is waited for something.
pub(super) fn limit() -> Duration {
    #[cfg(feature = "testing")]
    if pretend::has_wall() {
        return WAIT_VIRTUAL;
    }
    WAIT
}

/// A handler that remembers the events it was called for. Clones share what they remember.
///
/// # Examples
/// ```
/// use railbus::{Event, testing::{self, Recorder}, topic};
///
/// #[railbus::test]
/// async fn a_change_is_told() -> railbus::Result<()> {
///     let (bus, received) = (testing::bus().await?, Recorder::new());
///     bus.on(topic("registry:*")).run(received.clone()).await?;
///     bus.publish(Event::new("updated").topic("registry:bots").payload("b-1")).await?;
///     let events = received.wait_for(1).await;
///     assert_eq!(received.until(|events| !events.is_empty()).await, events);
///     assert_eq!(events[0].payload::<String>()?, "b-1");
///     assert_eq!((received.len(), received.types()), (1, vec!["updated".to_owned()]));
///     assert_eq!(received.events(), events);
///     received.clear();
///     assert!(received.is_empty());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Recorder(Arc<watch::Sender<Vec<Event>>>);

impl Recorder {
    /// Starts with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    /// Returns the events so far, in the order they came.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }

    /// Returns the types of the events so far.
    #[must_use]
    pub fn types(&self) -> Vec<String> {
        types(&self.0.borrow())
    }

    /// Returns how many events came so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Tells whether none came so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        self.0.send_modify(Vec::clear);
    }

    /// Waits until at least `count` events have come, and returns all that have.
    ///
    /// # Panics
    /// Panics after 10 seconds, in virtual time after 31 days, and says what has come by then.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> impl Future<Output = Vec<Event>> + use<> {
        let (recorder, caller) = (self.clone(), Location::caller());
        async move {
            let enough = recorder.wait(|events| events.len() >= count).await;
            enough.unwrap_or_else(|waited| {
                let seen = recorder.types();
                panic!("{caller}: {} of {count} events came in {waited}: {seen:?}", seen.len())
            })
        }
    }

    /// Waits until what has come is as it should be, and returns it.
    ///
    /// # Panics
    /// As [`Recorder::wait_for`].
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    #[track_caller]
    pub fn until(&self, is_so: impl FnMut(&[Event]) -> bool) -> impl Future<Output = Vec<Event>> {
        let (recorder, caller, mut is_so) = (self.clone(), Location::caller(), is_so);
        async move {
            let came = recorder.wait(|events| is_so(events)).await;
            came.unwrap_or_else(|waited| {
                let seen = recorder.types();
                panic!("{caller}: what was waited for did not come in {waited}: {seen:?}")
            })
        }
    }

    /// Waits until it is so; returns how long, if that was in vain.
    async fn wait(&self, mut is_so: impl FnMut(&Vec<Event>) -> bool) -> Result<Vec<Event>, String> {
        let (mut events, limit) = (self.0.subscribe(), limit());
        match timeout(limit, events.wait_for(|events| is_so(events))).await {
            Ok(Ok(events)) => Ok(events.clone()),
            _ => Err(format!("{} s", limit.as_secs())),
        }
    }
}

fn types(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.event_type().into()).collect()
}

impl SyncHandler for Recorder {
    fn handle(&self, event: &Event) -> Result<(), BoxError> {
        self.0.send_modify(|events| events.push(event.clone()));
        Ok(())
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.types()).finish()
    }
}
