//! Publishing: each event a message, many on their way at once, each confirmed by the stream.
//!
//! Whoever listens hears the same message that the stream keeps: one round trip serves both.

use super::{
    api::Kept,
    fault::Refusal,
    letters,
    link::Link,
    streams::Streams,
    trim,
    wire::{self, DELAY, MESSAGE_ID},
};
use crate::{
    backend::Outgoing,
    codec::Format,
    error::{Error, ErrorKind, Result},
};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::task::unconstrained;

/// How many of one batch are on their way at once.
const FLIGHTS: usize = 512;

/// An event on its way out.
#[derive(Debug)]
pub(super) struct Ready {
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

/// How events are written, and how large they may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    pub(super) prefix: &'a str,
    pub(super) format: Format,
    pub(super) payload_max: usize,
    /// Whether the server is to know an id again.
    pub(super) once: bool,
}

impl Ready {
    /// Checks and writes one event.
    pub(super) fn make(outgoing: &Outgoing, how: How<'_>) -> Result<Self> {
        let event = &outgoing.event;
        event.check()?;
        check_size(outgoing, how.payload_max)?;
        if outgoing.position.is_some() {
            let why = "nats does not keep how far an input was read";
            return Err(Error::new(ErrorKind::Unsupported, "publish", why));
        }
        let (mut headers, body) = wire::encode(how.format, event)?;
        if how.once {
            wire::put(&mut headers, MESSAGE_ID, event.id());
        }
        if let Some(delay) = event.delay() {
            headers.insert(DELAY, HeaderValue::from(millis(delay).to_string()));
        }
        let subject = format!("{}.{}", how.prefix, super::subject::of_topic(event.topic()));
        Ok(Self { subject, headers, body })
    }
}

/// Returns a duration in milliseconds, rounded up.
pub(super) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_micros().div_ceil(1000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

fn check_size(outgoing: &Outgoing, payload_max: usize) -> Result<()> {
    let size = outgoing.event.text()?.len();
    if size <= payload_max {
        return Ok(());
    }
    let why = "the payload is too large for the server";
    Err(Error::new(ErrorKind::TooLarge, "publish", why)
        .with("event", outgoing.event.id())
        .with("bytes", size)
        .with("allowed", payload_max)
        .hint("publish a reference to where the data is kept, or raise the server's max_payload"))
}

/// What is published: an event as it is written and as it was given, or what never became one.
#[derive(Debug)]
enum Item {
    Event(Ready, Outgoing),
    Rejected(Outgoing),
}

/// Publishes a batch into the stream, to its end even if nobody waits for it; returns a result each.
pub(super) async fn publish(
    streams: &Arc<Streams>,
    batch: &[Outgoing],
    payload_max: usize,
) -> Vec<Result<()>> {
    let how = how(streams, payload_max);
    let make = |outgoing: &Outgoing| match outgoing.rejected {
        Some(_) => Ok(Item::Rejected(outgoing.clone())),
        None => Ok(Item::Event(Ready::make(outgoing, how)?, outgoing.clone())),
    };
    if let [one] = batch {
        return match make(one) {
            Ok(item) => vec![send(streams, item, payload_max).await],
            Err(e) => vec![Err(e)],
        };
    }
    let made: Vec<_> = batch.iter().map(make).collect();
    let (streams, count) = (Arc::clone(streams), batch.len());
    let sending = tokio::spawn(async move {
        let send = |made: Result<Item>| {
            let streams = Arc::clone(&streams);
            // One that has to wait for its turn would go behind those after it.
            unconstrained(async move { send(&streams, made?, payload_max).await })
        };
        stream::iter(made).map(send).buffered(FLIGHTS).collect::<Vec<_>>().await
    });
    sending.await.unwrap_or_else(|_| vec![Err(super::fault::closed()); count])
}

async fn send(streams: &Streams, item: Item, payload_max: usize) -> Result<()> {
    let (ready, outgoing) = match item {
        Item::Rejected(outgoing) => return letters::reject(streams, &outgoing).await,
        Item::Event(ready, outgoing) => (ready, outgoing),
    };
    // Written anew where it is sent again: that is rare, and a copy of each is not free.
    let again = || Ready::make(&outgoing, how(streams, payload_max));
    let kept = match put(streams, ready).await? {
        Some(kept) => kept,
        None => {
            // A server that keeps streams in memory has lost them with its end.
            streams.prepare().await?;
            put(streams, again()?).await?.unwrap_or_else(|| Err(unheard()))
        }
    };
    let Err(refused) = kept.map_err(|refusal| refusal.error("publish")) else { return Ok(()) };
    // What all groups have settled need not be in the way of what is new.
    if refused.kind() != ErrorKind::Full || !trim::make_room(streams).await.unwrap_or(false) {
        return Err(refused);
    }
    let kept = put(streams, again()?).await?.unwrap_or_else(|| Err(unheard()));
    kept.map(drop).map_err(|refusal| refusal.error("publish"))
}

async fn put(streams: &Streams, ready: Ready) -> Result<Option<Result<Kept, Refusal>>> {
    let Ready { subject, headers, body } = ready;
    streams.api.put("publish", &subject, Some(headers), body).await
}

fn how(streams: &Streams, payload_max: usize) -> How<'_> {
    let once = streams.limits.window.is_some();
    How { prefix: &streams.prefix, format: streams.format, payload_max, once }
}

fn unheard() -> Refusal {
    let description = "no stream has the subject".to_owned();
    Refusal { code: 503, err_code: 0, description }
}

/// Publishes a batch to whoever listens, and keeps nothing.
pub(super) async fn publish_live(link: &Link, batch: &[Outgoing], how: How<'_>) -> Vec<Result<()>> {
    let mut results = Vec::with_capacity(batch.len());
    for outgoing in batch {
        // Nobody keeps what never became an event; whoever publishes tells of it.
        let made = match outgoing.rejected {
            Some(_) => Ok(None),
            None => Ready::make(outgoing, how).map(Some),
        };
        results.push(match made {
            Ok(Some(ready)) => send_live(link, ready).await,
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        });
    }
    if results.iter().any(Result::is_ok)
        && let Err(e) = link.flush("publish").await
    {
        results.iter_mut().filter(|one| one.is_ok()).for_each(|one| *one = Err(e.clone()));
    }
    results
}

async fn send_live(link: &Link, ready: Ready) -> Result<()> {
    link.ready().await?;
    let Ready { subject, headers, body } = ready;
    let sent = link.client().publish_with_headers(subject, headers, body).await;
    sent.map_err(|e| match e.kind() {
        async_nats::PublishErrorKind::MaxPayloadExceeded => {
            let why = "the event is too large for the server";
            Error::new(ErrorKind::TooLarge, "publish", why)
                .with("allowed", link.client().max_payload())
                .hint("publish a reference to where the data is kept")
                .because(e)
        }
        _ if link.is_closed() => super::fault::closed(),
        _ => Error::new(ErrorKind::Unavailable, "publish", "the connection is lost").because(e),
    })
}
