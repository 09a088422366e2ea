//! Dead letters: written, listed, deleted. They are messages of a stream of their own: the event's, with
//! headers that say what became of it. One that is written again takes the place of the first.

use super::{
    api::Stored,
    lease::Held,
    streams::Streams,
    subject,
    wire::{self, DELAY, GROUP, MESSAGE_ID, ONLY},
};
use crate::{
    backend::{Letter, LetterFilter, LetterId, Outgoing},
    codec::Format,
    delivery::Try,
    error::{Error, ErrorKind, Result},
};
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::json;

/// Where the event was published.
pub(super) const ORIGIN: &str = "Railbus-Origin";
/// The group it failed in.
pub(super) const OF_GROUP: &str = "Railbus-Of-Group";
/// The subscription it failed in, or the input.
pub(super) const SUBSCRIPTION: &str = "Railbus-Subscription";
const REASON: &str = "Railbus-Reason";
const ATTEMPTS: &str = "Railbus-Attempts";
const HISTORY: &str = "Railbus-History";
/// The event's place in its stream, and how it is written there.
const PLACE: &str = "Railbus-Place";
const FORMAT: &str = "Railbus-Format";

/// How much of a reason is kept where the server takes no more.
const REASON_MAX: usize = 1024;

/// An event that becomes a dead letter.
#[derive(Clone, Copy)]
pub(super) struct Dying<'a> {
    pub(super) seq: u64,
    pub(super) held: &'a Held,
    pub(super) subscription: &'a str,
    pub(super) reason: &'a str,
}

/// Writes a dead letter, once for each subscription that an event failed in.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn write(
    streams: &Streams,
    (group, consumer): (&str, &str),
    dying: Dying<'_>,
    history: &[Try],
) -> Result<()> {
    let message = &dying.held.message;
    let mut headers = message.headers.clone().unwrap_or_default();
    strip(&mut headers);
    wire::put(&mut headers, ORIGIN, &message.subject);
    wire::put(&mut headers, OF_GROUP, group);
    wire::put(&mut headers, PLACE, &dying.seq.to_string());
    wire::put(&mut headers, FORMAT, name_of(streams.format));
    wire::put(&mut headers, ATTEMPTS, &dying.held.attempt.to_string());
    wire::put(&mut headers, SUBSCRIPTION, dying.subscription);
    let subject = streams.of_letter(consumer, dying.subscription, &dying.seq.to_string());
    put(streams, &subject, headers, message.payload.clone(), (dying.reason, history)).await
}

/// Writes what never became an event as a dead letter.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn reject(streams: &Streams, outgoing: &Outgoing) -> Result<()> {
    let input = outgoing.position.as_ref().map_or("", |position| &*position.input);
    let event = &outgoing.event;
    // A dead letter tells all there is.
    let (mut headers, body) = wire::encode(Format::CloudEvents, event)?;
    wire::put(&mut headers, ORIGIN, &streams.of_topic(event.topic()));
    wire::put(&mut headers, PLACE, event.id());
    wire::put(&mut headers, FORMAT, name_of(Format::CloudEvents));
    wire::put(&mut headers, ATTEMPTS, "0");
    wire::put(&mut headers, SUBSCRIPTION, input);
    let subject = streams.of_letter("=", input, event.id());
    let reason = outgoing.rejected.as_deref().unwrap_or_default();
    put(streams, &subject, headers, body, (reason, &[])).await
}

async fn put(
    streams: &Streams,
    subject: &str,
    mut headers: HeaderMap,
    body: Bytes,
    (reason, history): (&str, &[Try]),
) -> Result<()> {
    wire::put(&mut headers, REASON, reason);
    let mut whole = headers.clone();
    // Numbers and texts always encode.
    wire::put(&mut whole, HISTORY, &serde_json::to_string(history).unwrap_or_default());
    let put = |headers| streams.api.put("settle", subject, Some(headers), body.clone());
    let kept = match put(whole).await {
        Err(e) if e.kind() == ErrorKind::TooLarge => {
            // Better with less said of it than not at all.
            let mut end = reason.len().min(REASON_MAX);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            wire::put(&mut headers, REASON, &reason[..end]);
            put(headers).await?
        }
        kept => kept?,
    };
    match kept {
        Some(kept) => kept.map(drop).map_err(|refusal| refusal.error("settle")),
        None => {
            let why = "the stream of dead letters is not there";
            Err(Error::new(ErrorKind::Unavailable, "settle", why).with("stream", &streams.dead))
        }
    }
}

/// Takes away what is said of one delivery alone.
fn strip(headers: &mut HeaderMap) {
    let gone = [MESSAGE_ID, DELAY, GROUP, ONLY];
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        if gone.contains(&text) {
            continue;
        }
        for value in values {
            kept.append(name.clone(), value.clone());
        }
    }
    *headers = kept;
}

/// Returns the event's own headers of a letter.
pub(super) fn own(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, values) in headers.iter() {
        let text: &str = name.as_ref();
        if text.starts_with("Railbus-") {
            continue;
        }
        for value in values {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

const FORMATS: [(&str, Format); 3] = [
    ("cloudevents", Format::CloudEvents),
    ("plain", Format::Plain),
    ("dataknobs", Format::Dataknobs),
];

fn name_of(format: Format) -> &'static str {
    FORMATS.iter().find(|(_, one)| *one == format).map_or("cloudevents", |(name, _)| name)
}

/// Returns the number of a letter; what is none is no letter of this stream.
pub(super) fn number(id: &LetterId) -> Option<u64> {
    id.as_str().parse().ok()
}

/// Reads one letter's message.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn get(streams: &Streams, seq: u64) -> Result<Option<Stored>> {
    streams.api.get("letters", &streams.dead, &json!({ "seq": seq })).await
}

/// Lists the letters that `filter` takes, oldest first.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn letters(streams: &Streams, filter: &LetterFilter) -> Result<Vec<Letter>> {
    let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut found = Vec::new();
    if let Some(id) = &filter.id {
        let Some(seq) = number(id) else { return Ok(found) };
        let letter = get(streams, seq).await?.and_then(|stored| read(streams, &stored));
        found.extend(letter.filter(|letter| limit > 0 && filter.takes(letter)));
        return Ok(found);
    }
    let below = match &filter.group {
        Some(group) => format!("{}_dead.{}.>", streams.prefix, subject::consumer(group)),
        None => format!("{}_dead.>", streams.prefix),
    };
    let mut next = 1;
    while found.len() < limit {
        let which = json!({ "seq": next, "next_by_subj": below });
        let Some(stored) = streams.api.get("letters", &streams.dead, &which).await? else { break };
        let seq = stored.seq;
        next = seq + 1;
        match read(streams, &stored) {
            Some(letter) if filter.takes(&letter) => found.push(letter),
            Some(_) => {}
            None => {
                tracing::warn!(seq, stream = streams.dead, "what is no dead letter is passed over");
            }
        }
    }
    Ok(found)
}

/// Reads a letter; none if the message is no letter.
pub(super) fn read(streams: &Streams, stored: &Stored) -> Option<Letter> {
    let header = |name| wire::get(&stored.headers, name);
    let (subscription, reason) = (header(SUBSCRIPTION)?, header(REASON)?);
    let topic = streams.to_topic(&header(ORIGIN)?);
    let format = header(FORMAT).and_then(|name| {
        FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    });
    let place = header(PLACE).unwrap_or_default();
    let id = format!("{}:{place}", streams.events);
    let headers = Some(&stored.headers);
    let event = wire::decode(format.unwrap_or_default(), &topic, &id, headers, &stored.body).ok();
    let mut history: Vec<Try> =
        header(HISTORY).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    // A lease that ran out was nobody's in particular.
    history.retain(|t| t.subscription == subscription || t.subscription.is_empty());
    let delivered = header(ATTEMPTS).and_then(|text| text.parse().ok()).unwrap_or(0);
    let of = |get: fn(&crate::event::Event) -> &str| event.as_ref().map_or("", get).to_owned();
    Some(Letter {
        id: LetterId::new(stored.seq.to_string()),
        event_id: of(|event| event.id()),
        event_type: of(|event| event.event_type()),
        topic: event.as_ref().map_or(topic, |event| event.topic().into()),
        group: header(OF_GROUP),
        subscription,
        reason,
        attempts: history.last().map_or(delivered, |last| last.attempt),
        at: stored.at,
        history,
        event,
    })
}

/// Deletes letters for ever; tells how many there were.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn purge(streams: &Streams, ids: &[LetterId]) -> Result<u64> {
    let mut purged = 0;
    for seq in ids.iter().filter_map(number) {
        purged += u64::from(streams.api.delete("purge", &streams.dead, seq).await?);
    }
    Ok(purged)
}
