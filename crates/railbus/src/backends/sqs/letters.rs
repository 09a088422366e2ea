//! Dead letters: listed, handed back, deleted.
//!
//! SQS shows messages only by handing them out. So whoever looks takes all there are, hidden from others
//! meanwhile, and shows them again.

use super::{
    dead::{LETTER, Note},
    message::{ONLY, OWN, number, read, system, texts},
    place::Whose,
    queue::{Parcel, Queue},
    service::Service,
};
use crate::{
    backend::{Letter, LetterFilter, LetterId},
    clock::Timestamp,
    error::{ErrorKind, Result},
};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use std::{collections::HashSet, sync::Arc, time::Duration};

/// How long letters are hidden from others at most while they are looked through.
const HIDDEN: Duration = Duration::from_secs(60);

/// How long is waited for letters of which only the count is known.
const WAIT: Duration = Duration::from_secs(1);

/// What stands between a letter's message and its group, in its id.
const OF: char = '@';

/// A letter as it was found.
struct Found {
    message: Message,
    letter: Letter,
    note: Option<Note>,
}

/// Lists the letters that `filter` takes, oldest first.
///
/// # Errors
/// Returns what the service says.
pub(super) async fn letters(service: &Service, filter: &LetterFilter) -> Result<Vec<Letter>> {
    let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let group = filter.id.as_ref().and_then(group_of).or(filter.group.as_deref());
    let mut all = Vec::new();
    let _sweeping = service.directory.sweeping.lock().await;
    for (queue, of) in queues(service, group).await? {
        let found = sweep(service, &queue, of.as_deref(), |_| true).await?;
        show(&queue, &found).await;
        all.extend(found.into_iter().map(|found| found.letter));
    }
    all.retain(|letter| filter.takes(letter));
    all.sort_by(|a, b| (a.at, &*a.event_id).cmp(&(b.at, &*b.event_id)));
    all.truncate(limit);
    Ok(all)
}

/// Hands letters back, each to the one subscription it failed in; tells how many.
///
/// # Errors
/// Returns what the service says.
pub(super) async fn redrive(service: &Service, ids: &[LetterId]) -> Result<u64> {
    each(service, ids, true).await
}

/// Deletes letters for ever; tells how many there were.
///
/// # Errors
/// Returns what the service says.
pub(super) async fn purge(service: &Service, ids: &[LetterId]) -> Result<u64> {
    each(service, ids, false).await
}

async fn each(service: &Service, ids: &[LetterId], back: bool) -> Result<u64> {
    let mut done = 0;
    let groups: HashSet<_> = ids.iter().map(group_of).collect();
    let _sweeping = service.directory.sweeping.lock().await;
    for group in groups {
        // Where each group has letters of its own, an id names its group.
        if group.is_none() && !service.is_dead_shared() {
            continue;
        }
        for (queue, of) in queues(service, group).await? {
            let wanted: HashSet<_> = ids.iter().map(LetterId::as_str).collect();
            let mut left = wanted.len();
            let found = sweep(service, &queue, of.as_deref(), |found| {
                left -= usize::from(wanted.contains(found.letter.id.as_str()));
                left > 0
            });
            let (wanted, others): (Vec<_>, Vec<_>) = found
                .await?
                .into_iter()
                .partition(|found| wanted.contains(found.letter.id.as_str()));
            show(&queue, &others).await;
            done += settle(service, &queue, wanted, back).await?;
        }
    }
    Ok(done)
}

/// Hands back what was found, or deletes it.
async fn settle(service: &Service, queue: &Queue, found: Vec<Found>, back: bool) -> Result<u64> {
    let mut failed = None;
    let mut gone = Vec::with_capacity(found.len());
    let mut kept = Vec::new();
    for found in found {
        let sent = match back {
            true => hand_back(service, &found).await,
            false => Ok(true),
        };
        match sent {
            Ok(true) => gone.push(found),
            Ok(false) => kept.push(found),
            Err(error) => {
                failed = Some(error);
                kept.push(found);
            }
        }
    }
    show(queue, &kept).await;
    let receipts: Vec<_> = gone.iter().filter_map(receipt).collect();
    let mut count = 0;
    for deleted in queue.delete(&receipts).await {
        match deleted {
            Ok(()) => count += 1,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(count), Err)
}

/// Sends a letter's event to its group's queue as it was; false if nobody is known who had it.
async fn hand_back(service: &Service, found: &Found) -> Result<bool> {
    let note = found.note.as_ref();
    let group = match note {
        // What never became an event is nobody's.
        Some(Note { group: None, .. }) => return Ok(false),
        Some(note) => note.group.clone(),
        None => found.letter.group.clone(),
    };
    let group = match (group, service.settings.place.is_grouped()) {
        (Some(group), _) => group,
        // There is one queue, whoever is in it.
        (None, false) => String::new(),
        (None, true) => return Ok(false),
    };
    let mut attributes: Vec<_> =
        texts(&found.message).into_iter().filter(|(name, _)| !name.starts_with(OWN)).collect();
    attributes.extend(note.into_iter().flat_map(|note| note.beside.clone()));
    let only = note.map(|note| note.subscription.clone()).filter(|name| !name.is_empty());
    if let Some(only) = only {
        attributes.truncate(9);
        attributes.push((ONLY.into(), only));
    }
    let line = system(&found.message, &MessageSystemAttributeName::MessageGroupId);
    let dedup = service.settings.place.is_fifo().then(crate::id::new_id);
    let parcel = Parcel {
        body: found.message.body().unwrap_or_default().into(),
        attributes,
        delay: None,
        group: line.map(str::to_owned).filter(|_| dedup.is_some()),
        dedup,
    };
    let sent = service.queue(&group)?.send(&[parcel]).await;
    sent.into_iter().collect::<Result<Vec<_>>>().map(|_| true)
}

/// Returns the queues of dead letters that may have those of a group, each with its group if it is one's.
async fn queues(service: &Service, group: Option<&str>) -> Result<Vec<(Queue, Option<String>)>> {
    service.check_open()?;
    if service.is_dead_shared() {
        return Ok(service.dead(None)?.map(|queue| (queue, None)).into_iter().collect());
    }
    let groups = match group {
        Some(group) => vec![group.to_owned()],
        None => {
            service.look(false).await?;
            service.directory.names()
        }
    };
    let queue = |group: String| Ok(service.dead(Some(&group))?.map(|queue| (queue, Some(group))));
    groups.into_iter().filter_map(|group| queue(group).transpose()).collect()
}

/// Takes letters out of a queue, as long as `more` are wanted.
async fn sweep(
    service: &Service,
    queue: &Queue,
    group: Option<&str>,
    mut more: impl FnMut(&Found) -> bool,
) -> Result<Vec<Found>> {
    let there = match queue.attributes("letters").await {
        Ok(said) => count(&said, &QueueAttributeName::ApproximateNumberOfMessages),
        // It is made with its first letter.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == ErrorKind::Denied => u64::MAX,
        Err(error) => return Err(error),
    };
    let (mut all, mut seen, mut wait) = (Vec::new(), HashSet::new(), Duration::ZERO);
    loop {
        let came = queue.receive(10, wait, HIDDEN).await?;
        // What was seen comes again only if this took too long.
        let (before, mut goes_on) = (seen.len(), true);
        for message in came {
            if !seen.insert(message.message_id().unwrap_or_default().to_owned()) {
                continue;
            }
            let found = found(service, group, message);
            goes_on &= more(&found);
            all.push(found);
        }
        if !goes_on {
            return Ok(all);
        }
        match seen.len() > before {
            true => wait = Duration::ZERO,
            // A short look asks some of the service's machines only.
            false if wait.is_zero() && (all.len() as u64) < there => wait = WAIT,
            false => return Ok(all),
        }
    }
}

/// Reads a letter, whoever moved it there.
fn found(service: &Service, group: Option<&str>, message: Message) -> Found {
    let note = texts(&message).remove(LETTER);
    let note: Option<Note> = note.and_then(|text| serde_json::from_str(&text).ok());
    let event = read(&service.reading(), &message);
    let id = message.message_id().unwrap_or_default();
    let id = group.map_or_else(|| id.to_owned(), |group| format!("{id}{OF}{group}"));
    let received = number(&message, &MessageSystemAttributeName::ApproximateReceiveCount);
    let sent = number(&message, &MessageSystemAttributeName::SentTimestamp).unwrap_or_default();
    let moved = || Note {
        group: group.map(str::to_owned),
        reason: "the queue's redrive policy moved it here: it was received too often".into(),
        attempts: received.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).saturating_sub(1),
        at: sent.saturating_mul(1000),
        ..Note::default()
    };
    let of = note.clone().unwrap_or_else(moved);
    let reason = match &event {
        Err(poison) if note.is_none() => format!("{}; {}", of.reason, poison.error),
        _ => of.reason,
    };
    let event = event.ok();
    let name = |get: fn(&crate::event::Event) -> &str| event.as_ref().map_or("", get).to_owned();
    let letter = Letter {
        id: LetterId::new(id),
        event_id: name(|event| event.id()),
        event_type: name(|event| event.event_type()),
        topic: name(|event| event.topic()),
        group: of.group.or_else(|| note.is_none().then(|| whose(service, &message)).flatten()),
        subscription: of.subscription,
        reason,
        attempts: of.attempts,
        at: Timestamp::from_micros(of.at),
        history: of.history,
        event,
    };
    Found { message, letter, note }
}

/// Returns the group from whose queue SQS moved a message.
fn whose(service: &Service, message: &Message) -> Option<String> {
    if !service.settings.place.is_grouped() {
        // One queue has one group.
        return service.served();
    }
    // arn:aws:sqs:REGION:ACCOUNT:NAME
    let source = system(message, &MessageSystemAttributeName::DeadLetterQueueSourceArn)?;
    let name = source.rsplit(':').next()?;
    match service.settings.place.group_of(&format!("/{name}")) {
        Some(Whose::Group(group)) => Some(group),
        _ => None,
    }
}

/// Shows letters again that were looked at.
async fn show(queue: &Queue, found: &[Found]) {
    let changes: Vec<_> = found.iter().filter_map(receipt).map(|receipt| (receipt, 0)).collect();
    if changes.is_empty() {
        return;
    }
    if let Some(error) = queue.hide(&changes).await.into_iter().find_map(Result::err) {
        tracing::warn!(%error, "letters that were looked at are hidden for a minute");
    }
}

fn receipt(found: &Found) -> Option<Arc<str>> {
    found.message.receipt_handle().map(Arc::from)
}

/// Returns the group that a letter's id names.
fn group_of(id: &LetterId) -> Option<&str> {
    id.as_str().split_once(OF).map(|(_, group)| group)
}

/// Returns a count that a queue tells of itself.
pub(super) fn count(
    said: &std::collections::HashMap<QueueAttributeName, String>,
    name: &QueueAttributeName,
) -> u64 {
    said.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}
