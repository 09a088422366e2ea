//! An event every so often.

use crate::{
    backend::{Outgoing, Position},
    error::{Error, ErrorKind, Result},
    event::Event,
    input::EventInput,
    payload::RawPayload,
    topic::check_name,
};
use async_trait::async_trait;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, Interval as Ticks, MissedTickBehavior, interval_at};

/// The longest interval: longer ones are cut, so that the clock can count to their end.
const EVERY_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// An input that makes an event at regular intervals, for ever.
///
/// The first event comes one interval after the start. Ticks that were missed, since nobody asked
/// for them in time, come as one; those after it keep to the original beat. Every event is new:
/// its id, no position, `interval:NAME` as its source.
///
/// # Examples
/// ```
/// use railbus::{input::EventInput, inputs::interval::Interval, json};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let beat = Interval::new("beat", Duration::from_millis(1), "tick")?;
/// let mut beat = beat.topic("clock:tick")?.payload(json!({"by": "the clock"}));
/// let event = &beat.next().await?[0].event;
/// assert_eq!((event.topic(), event.source()), ("clock:tick", "interval:beat"));
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Interval {
    name: String,
    every: Duration,
    event_type: String,
    topic: Option<String>,
    payload: RawPayload,
    ticks: Option<Ticks>,
}

impl Interval {
    /// Creates an input that makes an event of `event_type` once per `every`, with payload `null`.
    ///
    /// # Errors
    /// Returns an error if `every` is zero or the type breaks an event's limits.
    pub fn new(
        name: impl Into<String>,
        every: Duration,
        event_type: impl Into<String>,
    ) -> Result<Self> {
        let (name, event_type) = (name.into(), event_type.into());
        if every.is_zero() {
            let error = Error::new(ErrorKind::Config, "interval", "`every` is zero");
            return Err(error.with("input", name).hint("write a duration such as 30s"));
        }
        check_name("type", &event_type)?;
        let every = every.min(EVERY_MAX);
        let payload = RawPayload::null();
        Ok(Self { name, every, event_type, topic: None, payload, ticks: None })
    }

    /// Sets the topic (default: the type).
    ///
    /// # Errors
    /// Returns an error if the topic breaks an event's limits.
    pub fn topic(mut self, topic: impl Into<String>) -> Result<Self> {
        let topic = topic.into();
        check_name("topic", &topic)?;
        self.topic = Some(topic);
        Ok(self)
    }

    /// Sets the payload of every event (default: `null`).
    #[must_use]
    pub fn payload(mut self, payload: Value) -> Self {
        self.payload = RawPayload::of(payload);
        self
    }

    fn ticks(&mut self) -> &mut Ticks {
        let every = self.every;
        self.ticks.get_or_insert_with(|| {
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        })
    }
}

#[async_trait]
impl EventInput for Interval {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_endless(&self) -> bool {
        true
    }

    /// Starts the clock, unless it runs already.
    async fn resume(&mut self, _position: Option<Position>) -> Result<()> {
        self.ticks();
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<Outgoing>> {
        self.ticks().tick().await;
        let mut event = Event::new(&*self.event_type).source(format!("interval:{}", self.name));
        if let Some(topic) = &self.topic {
            event = event.topic(&**topic);
        }
        Ok(vec![event.raw_payload(self.payload.clone()).into()])
    }
}
