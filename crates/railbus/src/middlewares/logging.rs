//! A line for the beginning and the end of each try.

use crate::{
    delivery::{Delivery, Outcome},
    error::{Result, chain},
    middleware::{Middleware, Next, Setup},
};
use async_trait::async_trait;
use std::time::Instant;
use tracing::{debug, info, warn};

/// Tells of each try: that it starts (debug), that it succeeded (info) or failed (warn), and how long it
/// took, in seconds, with its topic and the number of the try as fields; id, type and correlation id are
/// in the span around it, as for every line of a handler. What is in an event is not told.
///
/// # Examples
/// ```
/// use railbus::{Bus, Event, middlewares::Logging};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let bus = Bus::new();
/// bus.on("order.*").layer(Logging::new().payloads(true)).run(|_: &Event| {}).await?;
/// bus.publish(Event::new("order.placed")).await?;
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Logging {
    payloads: bool,
}

impl Logging {
    /// Tells of tries, without payloads.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells the payload as well when a try starts, as JSON (default: not).
    #[must_use]
    pub fn payloads(mut self, told: bool) -> Self {
        self.payloads = told;
        self
    }
}

#[async_trait]
impl Middleware for Logging {
    async fn handle(&self, delivery: &Delivery, next: Next<'_>) -> Outcome {
        let event = delivery.event();
        let (topic, attempt) = (event.topic(), delivery.attempt());
        match self.payloads {
            true => {
                let payload = event.payload::<serde_json::Value>().unwrap_or_default();
                debug!(topic, attempt, %payload, "handling");
            }
            false => debug!(topic, attempt, "handling"),
        }
        let began = Instant::now();
        let outcome = next.run_contained(delivery).await;
        let seconds = began.elapsed().as_secs_f64();
        match &outcome {
            Outcome::Done | Outcome::Replied(_) => {
                info!(topic, attempt, seconds, "handled");
            }
            Outcome::Skip => info!(topic, attempt, seconds, "skipped"),
            Outcome::Failed(error) => {
                let error = chain(&**error);
                warn!(topic, attempt, seconds, error, "failed");
            }
            Outcome::DeadLetter(reason) => {
                warn!(topic, attempt, seconds, reason, "failed for good");
            }
            Outcome::Retry(again_in) => {
                info!(topic, attempt, seconds, ?again_in, "wants to be called again");
            }
            Outcome::Nacked(nack) => {
                warn!(topic, attempt, seconds, reason = nack.reason, "given back");
            }
            Outcome::Pending(_) => {}
        }
        outcome
    }

    fn open(&self, setup: &mut Setup<'_>) -> Result<()> {
        setup.needs_outcome("logging")
    }
}
