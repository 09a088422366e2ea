//! Pulling: a request for what is there, and where nothing is, one for the next event.
//!
//! A request that waits is for one event alone: the server hands out each as it comes, so that more would
//! be leased to a member whose fetch is over already.

use super::{api::Api, link::Link};
use crate::error::{Error, ErrorKind, Result};
use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

/// How long the server keeps a request that waits.
const WAIT: Duration = Duration::from_secs(20);

/// How much later it is asked again.
const LATE: Duration = Duration::from_secs(2);

/// The wait after an answer that is no reason to give up.
const PAUSE: Duration = Duration::from_millis(50);

/// How long letting go may take.
const RETIRE_WITHIN: Duration = Duration::from_secs(1);

/// A message that was pulled.
#[derive(Debug)]
pub(super) struct Came {
    /// Its place in the stream.
    pub(super) seq: u64,
    /// How often it was delivered, this time included.
    pub(super) delivered: u64,
    /// When it was stored, by the server's clock in microseconds.
    pub(super) stored: i64,
    /// Where it is acknowledged.
    pub(super) ack: Arc<str>,
    /// From when on its lease counts.
    pub(super) at: Instant,
    pub(super) message: Message,
}

/// What pulling came to.
#[derive(Debug)]
pub(super) enum Pulled {
    Some(Vec<Came>),
    Stopped,
    /// The consumer does not answer.
    Gone,
}

/// Pulls from one consumer.
#[derive(Debug)]
pub(super) struct Puller {
    link: Link,
    next: String,
    inbox: String,
    place: Mutex<Inbox>,
}

#[derive(Debug)]
struct Inbox {
    subscriber: Option<Subscriber>,
    number: u64,
}

/// What one message in the inbox says.
enum Said {
    Event(Box<Came>),
    /// An answer to the request of this number.
    Status(u64, StatusCode, String),
    Nothing,
}

impl Puller {
    pub(super) async fn open(api: &Api, stream: &str, consumer: &str) -> Result<Self> {
        let link = api.link.clone();
        let inbox = link.client().new_inbox();
        let subscriber = Some(link.listen(format!("{inbox}.*")).await?);
        let next = api.subject(&format!("CONSUMER.MSG.NEXT.{stream}.{consumer}"));
        Ok(Self { link, next, inbox, place: Mutex::new(Inbox { subscriber, number: 0 }) })
    }

    /// Waits until there is an event, and returns up to `max`.
    ///
    /// # Errors
    /// Returns that the connection is lost, or what the server says.
    pub(super) async fn pull(
        &self,
        max: usize,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<Pulled> {
        let mut place = self.place.lock().await;
        loop {
            let asked = json!({ "batch": max, "no_wait": true });
            match self.round(&mut place, max, &asked, self.link.timeout(), stopped).await? {
                Pulled::Some(came) if came.is_empty() => {}
                pulled => return Ok(pulled),
            }
            let asked = json!({ "batch": 1, "expires": WAIT.as_nanos() });
            match self.round(&mut place, 1, &asked, WAIT + LATE, stopped).await? {
                Pulled::Some(came) if came.is_empty() => {}
                pulled => return Ok(pulled),
            }
        }
    }

    /// Asks once, and returns what came until the server said that it was all.
    async fn round(
        &self,
        place: &mut Inbox,
        max: usize,
        asked: &Value,
        limit: Duration,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<Pulled> {
        if *stopped.borrow() {
            return Ok(Pulled::Stopped);
        }
        self.link.ready().await?;
        place.number += 1;
        let number = place.number;
        let Some(subscriber) = &mut place.subscriber else { return Ok(Pulled::Stopped) };
        let mut breaks = self.link.breaks();
        let (began, waits) = (Instant::now(), asked["no_wait"].is_null());
        let reply = format!("{}.{number}", self.inbox);
        self.link.tell(&self.next, Some(reply), Bytes::from(asked.to_string())).await?;
        let mut came = Vec::new();
        let mut end = std::pin::pin!(sleep(limit));
        while came.len() < max {
            let message = tokio::select! {
                biased;
                message = subscriber.next() => message,
                _ = breaks.changed() => break,
                _ = stopped.wait_for(|stopped| *stopped) => {
                    return Ok(if came.is_empty() { Pulled::Stopped } else { Pulled::Some(came) });
                }
                // Who asks for what is not there is not always told so.
                () = &mut end => return Ok(if came.is_empty() { Pulled::Gone } else { Pulled::Some(came) }),
            };
            let Some(message) = message else { return Err(super::fault::closed()) };
            match read(message, if waits { Instant::now() } else { began }) {
                Said::Event(one) => came.push(*one),
                Said::Status(of, ..) if of != number => {}
                Said::Status(_, status, why) => match self.ended(status, &why).await? {
                    true => {
                        return Ok(if came.is_empty() { Pulled::Gone } else { Pulled::Some(came) });
                    }
                    false => break,
                },
                Said::Nothing => {}
            }
        }
        Ok(Pulled::Some(came))
    }

    /// Tells whether the consumer is gone, by the answer that ended a request.
    async fn ended(&self, status: StatusCode, why: &str) -> Result<bool> {
        match status.as_u16() {
            404 | 408 => Ok(false),
            503 => {
                sleep(PAUSE).await;
                Ok(true)
            }
            409 if why.contains("Deleted") => Ok(true),
            409 => {
                tracing::debug!(why, "the server asks to be asked again");
                sleep(PAUSE).await;
                Ok(false)
            }
            code => Err(Error::new(ErrorKind::Internal, "fetch", "the server refuses a pull")
                .with("status", code)
                .with("said", why)),
        }
    }

    /// Asks for nothing more, and returns what was on its way.
    pub(super) async fn retire(&self) -> Vec<Came> {
        let mut came = Vec::new();
        let Some(mut subscriber) = self.place.lock().await.subscriber.take() else { return came };
        let retiring = async {
            if !self.link.is_connected() || subscriber.drain().await.is_err() {
                return;
            }
            // What was sent before the server knew is here before its answer.
            if self.link.flush("close").await.is_ok() {
                while let Some(Some(message)) = subscriber.next().now_or_never() {
                    if let Said::Event(one) = read(message, Instant::now()) {
                        came.push(*one);
                    }
                }
            }
        };
        let _ = timeout(RETIRE_WITHIN, retiring).await;
        came
    }
}

fn read(message: Message, at: Instant) -> Said {
    if let Some(status) = message.status {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        let why = message.description.unwrap_or_default();
        return Said::Status(number.unwrap_or(0), status, why);
    }
    let place = message.reply.as_ref().and_then(|reply| Some((place(reply)?, Arc::from(&**reply))));
    match place {
        Some(((delivered, seq, stored), ack)) => {
            Said::Event(Box::new(Came { seq, delivered, stored, ack, at, message }))
        }
        None => Said::Nothing,
    }
}

/// Reads where an event lies and how often it was delivered from where it is acknowledged.
///
/// Source: JetStream's architecture, the subject of acknowledgements, with a domain and without.
fn place(reply: &str) -> Option<(u64, u64, i64)> {
    let tokens: Vec<&str> = reply.split('.').collect();
    if tokens.first() != Some(&"$JS") || tokens.get(1) != Some(&"ACK") {
        return None;
    }
    let from = if tokens.len() >= 11 { 6 } else { 4 };
    let number = |at: usize| tokens.get(from + at)?.parse::<u64>().ok();
    let stored = i64::try_from(number(3)? / 1000).ok()?;
    Some((number(0)?, number(1)?, stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_s_place_is_read_from_where_it_is_acknowledged() {
        let old = "$JS.ACK.events.billing.2.17.9.1700000000123456789.4";
        let new = "$JS.ACK.hub.ACCHASH.events.billing.2.17.9.1700000000123456789.4.x9";
        for reply in [old, new] {
            assert_eq!(place(reply), Some((2, 17, 1_700_000_000_123_456)), "{reply}");
        }
        assert_eq!(place("_INBOX.x.1"), None);
        assert_eq!(place("$JS.ACK.events.billing.x.17.9.1.4"), None);
    }
}
