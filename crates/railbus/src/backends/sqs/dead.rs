//! Dead letters as they are written: the message as it was, with one attribute more that says why.

use super::{
    held::Lease,
    message::{OWN, texts},
    queue::Parcel,
    service::Service,
};
use crate::{
    backend::Outgoing,
    clock::Timestamp,
    delivery::Try,
    error::{Error, ErrorKind, Result},
    id::derived_id,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The attribute that says why.
pub(super) const LETTER: &str = "railbus-letter";

/// How many attributes a message has besides.
const BESIDE_MAX: usize = 9;

/// How many characters of a reason are kept, and how many bytes of all.
const REASON_MAX: usize = 2_000;
const NOTE_MAX: usize = 16 << 10;

/// What a letter says beside the event.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<String>,
    pub(super) subscription: String,
    pub(super) reason: String,
    pub(super) attempts: u32,
    /// In microseconds since 1970.
    pub(super) at: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) history: Vec<Try>,
    /// Attributes of the message for which there was no room.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) beside: BTreeMap<String, String>,
}

impl Note {
    /// Writes it as the value of an attribute, with as much of the history as there is room for.
    fn value(&self) -> Result<String> {
        let mut note = self.clone();
        note.reason = note.reason.chars().take(REASON_MAX).collect();
        for tried in &mut note.history {
            tried.reason = tried.reason.chars().take(REASON_MAX).collect();
        }
        loop {
            let text = serde_json::to_string(&note).map_err(|e| {
                Error::new(ErrorKind::Internal, "settle", "a letter can't be written").because(e)
            })?;
            if text.len() <= NOTE_MAX || note.history.is_empty() {
                return Ok(text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff"));
            }
            note.history.remove(0);
        }
    }
}

/// Writes the letter of an event that failed for good in a subscription.
///
/// # Errors
/// Returns an internal error if it can't be written.
pub(super) fn letter(lease: &Lease, mut note: Note) -> Result<Parcel> {
    note.at = Timestamp::now().as_micros();
    let own = |name: &str| name.starts_with(OWN);
    let all = texts(&lease.message).into_iter().filter(|(name, _)| !own(name));
    let mut attributes: Vec<_> = all.collect();
    if attributes.len() > BESIDE_MAX {
        note.beside = attributes.split_off(BESIDE_MAX).into_iter().collect();
    }
    attributes.push((LETTER.into(), note.value()?));
    let body = lease.message.body().unwrap_or_default().to_owned();
    let (group, dedup) = match &lease.line {
        None => (None, None),
        Some(line) => {
            let which = format!("{}\n{}", lease.id, note.subscription);
            (Some(line.to_string()), Some(derived_id("railbus:sqs:letter", &which)))
        }
    };
    Ok(Parcel { body, attributes, delay: None, group, dedup })
}

/// Writes the letter of what never became an event.
///
/// # Errors
/// Returns an encode error if its payload can't be written.
pub(super) fn rejected(outgoing: &Outgoing, reason: &str, fifo: bool) -> Result<Parcel> {
    let event = &outgoing.event;
    let input = outgoing.position.as_ref().map(|position| position.input.to_string());
    let note = Note {
        subscription: input.unwrap_or_default(),
        reason: reason.into(),
        at: Timestamp::now().as_micros(),
        ..Note::default()
    };
    let body = String::from_utf8(crate::codec::encode(event)?).map_err(|e| {
        Error::new(ErrorKind::Encode, "publish", "the line is not UTF-8").because(e)
    })?;
    let body = body.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    let parcel =
        Parcel { body, attributes: vec![(LETTER.into(), note.value()?)], ..Parcel::default() };
    Ok(if fifo { super::message::in_order(parcel, event) } else { parcel })
}

/// Sends letters to the queue of a group's dead letters, which is made if it may be; returns a result
/// each.
pub(super) async fn send(
    service: &Service,
    group: Option<&str>,
    letters: &[Parcel],
) -> Vec<Result<()>> {
    if letters.is_empty() {
        return Vec::new();
    }
    let queue = match service.dead(group) {
        Ok(Some(queue)) => queue,
        Ok(None) => return vec![Err(nowhere()); letters.len()],
        Err(error) => return vec![Err(error); letters.len()],
    };
    let sent = queue.send(letters).await;
    let is_gone =
        |came: &Result<()>| came.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if !sent.iter().any(is_gone) || !service.settings.create {
        return sent.into_iter().map(|came| came.map_err(|e| e.with("dlq", &queue.url))).collect();
    }
    match queue.create().await {
        Ok(()) => queue.send(letters).await,
        Err(error) => vec![Err(error); letters.len()],
    }
}

/// Says that there is no queue for dead letters.
pub(super) fn nowhere() -> Error {
    Error::new(ErrorKind::Unsupported, "settle", "the queue has none for dead letters")
        .hint("set dlq_url, or a redrive policy on the queue")
}
