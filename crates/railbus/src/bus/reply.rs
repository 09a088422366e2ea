//! Replies: on their way back to who asked.

use super::open::Bus;
use crate::{
    delivery::{FailurePolicy, Outcome, contained},
    error::{Result, chain},
    event::{Event, Type},
    handler::{AnyHandler, Call, Called, FromDelivery, World},
    payload::RawPayload,
};
use futures_util::FutureExt;
use serde::Serialize;
use serde_json::json;
use std::panic::AssertUnwindSafe;

/// The metadata that names the topic on which a request waits for its reply.
pub(super) const REPLY_TO: &str = "replyto";

impl Bus {
    /// Answers a request by hand: from a task, say, that goes on when the handler has returned. A
    /// handler that knows its answer when it returns returns a [`Reply`](crate::Reply).
    ///
    /// Tells whether the event asked for a reply at all. The first reply counts.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    ///
    /// # Examples
    /// ```
    /// use railbus::{Bus, Event, context};
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let bus = Bus::new();
    /// let slowly = async |event: Event, bus: Bus| {
    ///     tokio::spawn(context::spawn(async move { bus.reply(&event, "in the end").await }));
    /// };
    /// bus.on("ask").run(slowly).await?;
    /// let reply = bus.request(Event::new("ask"), Duration::from_secs(5)).await?;
    /// assert_eq!(reply.payload::<String>()?, "in the end");
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    pub async fn reply<T>(&self, request: &Event, value: T) -> Result<bool>
    where
        T: Serialize + Send + Sync + 'static,
    {
        self.reply_with(request, Type::REPLY, RawPayload::of(value)).await
    }

    async fn reply_with(&self, request: &Event, kind: &str, payload: RawPayload) -> Result<bool> {
        let Some(topic) = request.metadata().get(REPLY_TO) else { return Ok(false) };
        let reply = Event::new(kind)
            .topic(topic)
            .correlation(request.correlation_id())
            .causation(request.id())
            .raw_payload(payload);
        self.publish(reply).await.map(|_| true)
    }
}

/// A handler that answers who asked.
pub(super) struct Replying {
    handler: Box<dyn AnyHandler>,
    policy: FailurePolicy,
}

impl Replying {
    /// Sends on what the handler answers; one that does not answer stays as it is.
    pub(super) fn around(
        handler: Box<dyn AnyHandler>,
        policy: impl FnOnce() -> FailurePolicy,
    ) -> Box<dyn AnyHandler> {
        match handler.replies() {
            true => Box::new(Self { handler, policy: policy() }),
            false => handler,
        }
    }

    async fn reply(&self, call: Call<'_>) -> Outcome {
        let handling = async {
            match self.handler.call(call) {
                Called::Now(outcome) => outcome,
                Called::Later(running) => running.await,
            }
        };
        let outcome = AssertUnwindSafe(handling).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|panic| contained("panicked", panic));
        let request = call.event();
        if !request.metadata().contains_key(REPLY_TO) {
            return outcome;
        }
        let bus = match Bus::from_delivery(&call) {
            Ok(bus) => bus,
            Err(error) => return Outcome::Failed(error),
        };
        match outcome {
            Outcome::Replied(reply) => {
                match bus.reply_with(request, Type::REPLY, reply.into_payload()).await {
                    Ok(_) => Outcome::Done,
                    Err(error) => Outcome::Failed(error.into()),
                }
            }
            Outcome::Failed(error) if self.policy.gives_up(&*error, call.attempt()) => {
                self.refuse(&bus, request, chain(&*error)).await;
                Outcome::Failed(error)
            }
            Outcome::DeadLetter(reason) => {
                self.refuse(&bus, request, reason.clone()).await;
                Outcome::DeadLetter(reason)
            }
            outcome => outcome,
        }
    }

    /// Tells who asked that there will be no answer. If that fails, so does what is asked of it:
    /// in time.
    async fn refuse(&self, bus: &Bus, request: &Event, reason: String) {
        let payload = RawPayload::of(json!({ "error": reason }));
        if let Err(error) = bus.reply_with(request, Type::REPLY_ERROR, payload).await {
            tracing::warn!(request = request.id(), %error, "who asked could not be told");
        }
    }
}

impl AnyHandler for Replying {
    fn call<'a>(&'a self, call: Call<'a>) -> Called<'a> {
        Called::Later(Box::pin(self.reply(call)))
    }

    fn is_async(&self) -> bool {
        true
    }

    fn is_manual(&self) -> bool {
        self.handler.is_manual()
    }

    fn is_batch(&self) -> bool {
        self.handler.is_batch()
    }

    fn replies(&self) -> bool {
        true
    }

    fn check(&self, world: &World) -> Result<(), crate::error::Error> {
        self.handler.check(world)
    }
}
