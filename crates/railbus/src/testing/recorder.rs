//! A handler that remembers.

use crate::{error::BoxError, event::Event, handler::SyncHandler};
use std::{fmt, future::Future, panic::Location, sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How long [`Recorder::wait_for`] waits.
const WAIT: Duration = Duration::from_secs(10);

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
    /// Panics after 10 seconds, and says what has come by then.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> impl Future<Output = Vec<Event>> + use<> {
        let (recorder, caller) = (self.clone(), Location::caller());
        async move {
            let mut events = recorder.0.subscribe();
            let enough = timeout(WAIT, events.wait_for(|events| events.len() >= count)).await;
            match enough {
                Ok(Ok(events)) => events.clone(),
                _ => {
                    let seen = recorder.types();
                    let (came, waited) = (seen.len(), WAIT.as_secs());
                    panic!("{caller}: {came} of {count} events came in {waited} s: {seen:?}")
                }
            }
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
