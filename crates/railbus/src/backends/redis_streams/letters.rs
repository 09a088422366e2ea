//! Dead letters: listed, handed back, deleted.

use super::{
    entry::Entry,
    id::Id,
    keys::Keys,
    script::{LETTERS, bytes, list, number},
    settle::{ended_line, history},
};
use crate::{
    backend::{Letter, LetterFilter, LetterId},
    backends::redis::link::Link,
    clock::Timestamp,
    error::Result,
    topic::Pattern,
};
use redis::Value;
use std::collections::HashMap;

/// How many letters one request reads.
const READ_MAX: usize = 256;

/// Lists the letters that `filter` takes, oldest first.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn letters(
    link: &Link,
    keys: &Keys,
    filter: &LetterFilter,
) -> Result<Vec<Letter>> {
    let limit = filter.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let wanted = Wanted::new(filter);
    let mut from = filter.since.map_or_else(|| "-".into(), |at| format!("({}", Id::before(at)));
    let mut to = "+".to_owned();
    if let Some(id) = &filter.id {
        // What is no place is no letter of this stream.
        let Ok(id) = id.as_str().parse::<Id>() else { return Ok(Vec::new()) };
        (from, to) = (id.to_string(), id.to_string());
    }
    let mut found = Vec::new();
    loop {
        let mut command = redis::cmd("XRANGE");
        command.arg(&keys.dead).arg(&from).arg(&to).arg("COUNT").arg(READ_MAX);
        let page = list(link.ask::<Value>("letters", &command).await?);
        let is_last = page.len() < READ_MAX;
        for entry in page {
            let Some((id, fields)) = parts(entry) else { continue };
            from = format!("({id}");
            let Some(letter) = read(id, fields, keys) else {
                tracing::warn!(%id, key = keys.dead, "what is no dead letter is passed over");
                continue;
            };
            if found.len() < limit && wanted.takes(&letter, filter) {
                found.push(letter);
            }
        }
        if is_last || found.len() >= limit || filter.id.is_some() {
            return Ok(found);
        }
    }
}

struct Wanted {
    event_type: Option<Pattern>,
    topic: Option<Pattern>,
}

impl Wanted {
    fn new(filter: &LetterFilter) -> Self {
        let pattern = |text: &Option<String>| text.as_deref().map(Pattern::new);
        Self { event_type: pattern(&filter.event_type), topic: pattern(&filter.topic) }
    }

    fn takes(&self, letter: &Letter, filter: &LetterFilter) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|w| w == text);
        let matches = |p: &Option<Pattern>, name: &str| p.as_ref().is_none_or(|p| p.matches(name));
        is(&filter.event_id, &letter.event_id)
            && filter.group.as_ref().is_none_or(|group| letter.group.as_ref() == Some(group))
            && is(&filter.subscription, &letter.subscription)
            && matches(&self.event_type, &letter.event_type)
            && matches(&self.topic, &letter.topic)
            && filter.reason.as_ref().is_none_or(|part| letter.reason.contains(part))
            && filter.since.is_none_or(|since| letter.at >= since)
    }
}

fn parts(value: Value) -> Option<(Id, Vec<Value>)> {
    let mut parts = list(value).into_iter();
    Some((Id::read(&bytes(parts.next()?))?, list(parts.next()?)))
}

fn read(id: Id, fields: Vec<Value>, keys: &Keys) -> Option<Letter> {
    let mut fields = fields.into_iter();
    let mut all: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut own = Vec::new();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (name, value) = (bytes(name), bytes(value));
        match name.strip_prefix(b"f:") {
            Some(name) => {
                own.extend([Value::BulkString(name.to_vec()), Value::BulkString(value)]);
            }
            None => drop(all.insert(name, value)),
        }
    }
    let mut take = |name: &str| {
        let text = all.remove(name.as_bytes());
        text.map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    let (subscription, reason) = (take("subscription")?, take("reason")?);
    let group = take("group");
    let mut history = history(&take("history").unwrap_or_default());
    // A lease that ran out was nobody's in particular.
    history.retain(|t| t.subscription == subscription || t.subscription.is_empty());
    let delivered = take("attempt").and_then(|text| text.parse().ok()).unwrap_or(0);
    // What never became an event has no place in the stream.
    let at = take("id").and_then(|at| at.parse().ok()).unwrap_or(id);
    let entry = Entry::of(at, Value::Array(own), keys);
    let topic = entry.topic().unwrap_or_default().to_owned();
    let event = entry.into_event();
    let of = |get: fn(&crate::event::Event) -> &str| event.as_ref().map_or("", get).to_owned();
    Some(Letter {
        id: LetterId::new(id.to_string()),
        event_id: of(|event| event.id()),
        event_type: of(|event| event.event_type()),
        topic: event.as_ref().map_or(topic, |event| event.topic().into()),
        group,
        subscription,
        reason,
        attempts: history.last().map_or(delivered, |last| last.attempt),
        at: Timestamp::from_micros(i64::try_from(id.ms).unwrap_or(0).saturating_mul(1000)),
        history,
        event,
    })
}

/// Hands letters back, each to the one subscription it failed in; tells how many.
///
/// Left alone are letters that are gone, lines that never became an event, and events that another
/// subscription of the group is still working on.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn redrive(link: &Link, keys: &Keys, ids: &[LetterId]) -> Result<u64> {
    let mut redriven = 0;
    for id in ids {
        let filter = LetterFilter { id: Some(id.clone()), ..LetterFilter::default() };
        let Some(letter) = letters(link, keys, &filter).await?.pop() else { continue };
        let not_through = ended_line(&letter.subscription, None);
        redriven += each(link, keys, id, "redrive", &not_through).await?;
    }
    Ok(redriven)
}

/// Deletes letters for ever; tells how many there were.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn purge(link: &Link, keys: &Keys, ids: &[LetterId]) -> Result<u64> {
    let mut purged = 0;
    for id in ids.iter().filter(|id| id.as_str().parse::<Id>().is_ok()) {
        purged += each(link, keys, id, "purge", "").await?;
    }
    Ok(purged)
}

async fn each(
    link: &Link,
    keys: &Keys,
    id: &LetterId,
    what: &'static str,
    line: &str,
) -> Result<u64> {
    let said = LETTERS.run(link, keys, what, |command| {
        command.arg(id.as_str()).arg(what).arg(line);
    });
    Ok(u64::try_from(number(&said.await?).unwrap_or(0)).unwrap_or(0))
}
