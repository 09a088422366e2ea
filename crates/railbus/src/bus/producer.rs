//! Producers: programs, or parts of one, that only publish.

use super::open::Bus;
use crate::{
    backend::{Backend, Broadcast, Outgoing},
    error::{Error, ErrorKind, Result},
    event::{Event, IntoEvent},
    options::IntoOptions,
    retry::Retry,
    task,
};
use std::{
    borrow::{Borrow, Cow},
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// How many events are on their way at once unless it is said.
const IN_FLIGHT: u32 = 1_000;

/// How long [`Producer::close`] waits for what is on its way.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);

/// Publishes to a backend, and nothing else. Cheap to clone; clones share connection and bounds.
///
/// `Ok` means that the backend has confirmed the event. Nothing is buffered: at most 1,000 events
/// ([`Producer::in_flight`]) are on their way, and who publishes more waits.
///
/// # Examples
/// ```
/// use railbus::{Bus, Consumer, Event, Producer, Retry, backends::memory::Memory, json};
/// use std::sync::Arc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// // "redis-streams://localhost:6379?stream=events" is a place that others are on, too:
/// // Producer::open(..). Here both are on one memory.
/// let memory = Memory::default();
/// let consumer = Consumer::over(Arc::new(memory.connect()), "mails")?;
/// let greet = async |event: Event| assert_eq!(event.metadata()["version"], "1.0");
/// consumer.on("user.created").run(greet).await?;
/// consumer.start().await?;
///
/// let producer = Producer::over(Arc::new(memory))
///     .source("web-app")
///     .metadata("version", "1.0")
///     .retry(Retry::attempts(3))
///     .in_flight(100);
/// producer.publish(("user.created", json!({ "user_id": "123" }))).await?;
/// producer.publish(Event::new("user.created").source("import").payload(7)).await?;
/// let batch = (1..=3).map(|n| ("user.created", json!({ "user_id": n })));
/// let results = producer.publish_all(batch).await;
/// assert_eq!((results.len(), results.iter().all(Result::is_ok)), (3, true));
/// producer.close().await?;
/// consumer.stop().await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Producer {
    bus: Bus,
    source: String,
    metadata: BTreeMap<String, String>,
    retry: Retry,
    room: Arc<Semaphore>,
    most: u32,
    // What is on its way, of all clones, whichever room it has.
    under_way: TaskTracker,
}

impl Producer {
    /// Opens a producer on the backend that a URL, a map, a table or
    /// [`Options`](crate::options::Options) name.
    ///
    /// # Errors
    /// As [`Bus::open`]; also a config error for a memory of its own, where nobody else is.
    ///
    /// # Examples
    /// ```
    /// use railbus::{ErrorKind, Producer};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let refused = Producer::open("memory:").await.unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Config);
    /// # });
    /// ```
    pub async fn open(options: impl IntoOptions) -> Result<Self> {
        let bus = Bus::open(options).await?;
        if bus.capability().broadcast == Broadcast::Inline && !bus.capability().durable {
            let why = "nobody else is on a memory of one's own: what is published there is gone";
            return Err(Error::new(ErrorKind::Config, "open producer", why)
                .hint("publish on the bus itself, or open a store such as sqlite:PATH"));
        }
        Ok(Self::of(bus))
    }

    /// Opens a producer over a backend of the caller's.
    #[must_use]
    pub fn over(backend: Arc<dyn Backend>) -> Self {
        Self::of(Bus::over(backend))
    }

    fn of(bus: Bus) -> Self {
        Self {
            bus,
            source: String::new(),
            metadata: BTreeMap::new(),
            retry: Retry::attempts(1),
            room: Arc::new(Semaphore::new(IN_FLIGHT as usize)),
            most: IN_FLIGHT,
            under_way: TaskTracker::new(),
        }
    }

    /// Sets the source of events that name none.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }

    /// Adds an attribute to the metadata of events that don't have it.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Sets how often an event is tried that the backend can't take at the moment (default: once).
    ///
    /// It keeps its id: where a try was stored although its answer got lost, the event is there
    /// twice, and its id tells. What no later try can change, such as a payload that is too large,
    /// is not tried again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how many events are on their way at once, over all clones made from here on (default
    /// 1,000); none counts as one.
    #[must_use]
    pub fn in_flight(mut self, most: u32) -> Self {
        // No more than a semaphore has.
        self.most = most.clamp(1, u32::MAX >> 3);
        self.room = Arc::new(Semaphore::new(self.most as usize));
        self
    }

    /// Publishes one event and returns when the backend has confirmed it.
    ///
    /// It waits while as many events are on their way as may be, inside a handler as well.
    ///
    /// # Errors
    /// As [`Bus::publish`]; after the last try if there are several.
    ///
    /// # Cancel safety
    /// If it is dropped, the event may or may not have been published.
    pub async fn publish(&self, event: impl IntoEvent) -> Result<()> {
        let held = event.into_event();
        let event = self.made_of(held.borrow());
        let _room = self.room(1).await?;
        let mut attempt = 1;
        loop {
            let Err(error) = self.bus.publish(&*event).await else { return Ok(()) };
            self.wait_after(error, attempt).await?;
            attempt += 1;
        }
    }

    /// Publishes many events and returns one result an event, in order.
    ///
    /// Only as many are taken from the iterator as may be on their way, and no more than the
    /// backend takes at once. Each is tried as often as [`Producer::retry`] says.
    ///
    /// # Errors
    /// Each result is as of [`Producer::publish`].
    ///
    /// # Cancel safety
    /// If it is dropped, those whose result is not known may or may not have been published.
    pub async fn publish_all<E: IntoEvent>(
        &self,
        events: impl IntoIterator<Item = E, IntoIter: Send> + Send,
    ) -> Vec<Result<()>> {
        let part = self.bus.capability().batch_max.clamp(1, self.most as usize);
        let (mut events, mut results) = (events.into_iter(), Vec::new());
        loop {
            let next = events.by_ref().take(part);
            let made = next.map(|event| self.made_of(event.into_event().borrow()).into_owned());
            let batch: Vec<_> = made.map(Outgoing::from).collect();
            if batch.is_empty() {
                return results;
            }
            match self.room(batch.len()).await {
                Ok(_room) => results.extend(self.publish_batch(&batch).await),
                Err(error) => results.extend(vec![Err(error); batch.len()]),
            }
        }
    }

    /// Publishes a batch; what the backend can't take at the moment of it again.
    async fn publish_batch(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        let published = self.bus.publish_all(batch).await;
        let mut results: Vec<_> = published.into_iter().map(|result| result.map(drop)).collect();
        for attempt in 1.. {
            let again = |(_, result): &(usize, &Result<()>)| {
                result.as_ref().is_err_and(|error| self.is_tried_again(error))
            };
            let left: Vec<_> = results.iter().enumerate().filter(again).map(|(at, _)| at).collect();
            let Some(Err(error)) = left.first().map(|at| results[*at].clone()) else { break };
            if self.wait_after(error, attempt).await.is_err() {
                break;
            }
            let batch: Vec<_> = left.iter().map(|at| batch[*at].clone()).collect();
            for (at, result) in left.into_iter().zip(self.bus.publish_all(&batch).await) {
                results[at] = result.map(drop);
            }
        }
        results
    }

    /// Returns the event as this producer publishes it.
    fn made_of<'a>(&self, event: &'a Event) -> Cow<'a, Event> {
        let as_it_is = self.source.is_empty() && self.metadata.is_empty();
        match as_it_is {
            true => Cow::Borrowed(event),
            false => Cow::Owned(event.marked(&self.source, &self.metadata)),
        }
    }

    /// Waits for room for so many, wherever it is asked for: handlers belong to another bus, for
    /// nobody subscribes to a producer's own.
    async fn room(&self, count: usize) -> Result<(Option<SemaphorePermit<'_>>, TaskTrackerToken)> {
        self.bus.check_open("publish")?;
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(self.most);
        // It is never closed: a bus that closes refuses by itself.
        Ok((self.room.acquire_many(count).await.ok(), self.under_way.token()))
    }

    fn is_tried_again(&self, error: &Error) -> bool {
        error.is_retryable() && self.retry.covers(error.kind().name(), error)
    }

    /// Waits for the next try; the error comes back if there is none.
    async fn wait_after(&self, error: Error, attempt: u32) -> Result<()> {
        let wait = self.retry.wait_after(attempt).filter(|_| self.is_tried_again(&error));
        let Some(wait) = wait else { return Err(error) };
        tracing::warn!(%error, attempt, again_in = ?wait, "publishing failed");
        let sleep = task::sleep("publish", wait)?;
        tokio::select! {
            () = sleep => Ok(()),
            () = self.bus.0.closing.cancelled() => Err(error),
        }
    }

    /// Tells whether the backend answers.
    ///
    /// # Errors
    /// Returns what the backend says if it doesn't.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Producer, backends::memory::Memory};
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let producer = Producer::over(Arc::new(Memory::default()));
    /// assert!(producer.ping().await.is_ok());
    /// producer.close().await?;
    /// producer.close().await?; // again is fine
    /// assert!(producer.publish(("tick", 1)).await.is_err());
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn ping(&self) -> Result<()> {
        self.bus.ping().await
    }

    /// Closes the producer and its clones: what is on its way is waited for, for at most 30 seconds;
    /// nothing new is taken. Again is fine.
    ///
    /// # Errors
    /// Returns an error if the backend can't let go.
    ///
    /// # Cancel safety
    /// If it is dropped, nothing new is taken all the same; call it again to finish.
    pub async fn close(&self) -> Result<()> {
        self.close_within(CLOSE_WITHIN).await
    }

    pub(super) async fn close_within(&self, deadline: Duration) -> Result<()> {
        let (began, draining) = (Instant::now(), self.bus.drain());
        self.under_way.close();
        let _ = task::within(deadline, self.under_way.wait()).await;
        draining.finish(deadline.saturating_sub(began.elapsed())).await
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({:?})", self.bus)
    }
}
