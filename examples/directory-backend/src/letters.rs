//! Dead letters: a file each, named after what failed where, so that none is written twice.

use crate::{
    files::{delete, get, name_of, names, put},
    log,
};
use railbus::{
    Result,
    backend::{HISTORY_MAX, Letter, LetterId, Settle},
    clock::Timestamp,
    delivery::{End, Try},
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A dead letter as it lies in its file; the event is in the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) number: u64,
    pub(crate) group: String,
    pub(crate) subscription: String,
    reason: String,
    attempts: u32,
    at: i64,
    history: Vec<Try>,
}

pub(crate) fn path(root: &Path, id: &str) -> PathBuf {
    // What is no letter's id is no path out of here.
    root.join("letters").join(id.replace('/', "%2f"))
}

/// Writes a letter for each subscription that a settlement says is dead.
pub(crate) fn write(
    root: &Path,
    group: &str,
    number: u64,
    before: &[Try],
    attempts: u32,
    settle: &Settle,
) -> Result<()> {
    for (subscription, end) in &settle.ended {
        let End::Dead(reason) = end else { continue };
        let concerns = |t: &&Try| *t.subscription == **subscription || t.subscription.is_empty();
        let tries = before.iter().chain(&settle.failed).filter(concerns).cloned();
        let mut history: Vec<Try> = tries.collect();
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        let stored = Stored {
            number,
            group: group.into(),
            subscription: subscription.to_string(),
            reason: reason.clone(),
            attempts,
            at: Timestamp::now().as_micros(),
            history,
        };
        let name = name_of(&format!("{group}\n{subscription}"));
        put(root, &path(root, &format!("{number:020}-{name}")), &stored)?;
    }
    Ok(())
}

/// Reads what a letter says of itself; none if there is no such letter.
pub(crate) fn stored(root: &Path, id: &LetterId) -> Result<Option<Stored>> {
    get(&path(root, id.as_str()))
}

/// Returns all letters, oldest first.
pub(crate) fn all(root: &Path) -> Result<Vec<Letter>> {
    let mut all = Vec::new();
    for id in names(&root.join("letters"))? {
        let id = LetterId::new(id);
        // It may have been redriven meanwhile.
        let Some(stored) = stored(root, &id)? else { continue };
        let Some(entry) = log::read(root, stored.number)? else { continue };
        let event = entry.event().ok();
        all.push(Letter {
            event_id: event.as_ref().map_or_else(|| stored.number.to_string(), |e| e.id().into()),
            event_type: entry.head.event_type,
            topic: entry.head.topic,
            event,
            group: Some(stored.group),
            subscription: stored.subscription,
            reason: stored.reason,
            attempts: stored.attempts,
            at: Timestamp::from_micros(stored.at),
            history: stored.history,
            id,
        });
    }
    all.sort_by_key(|letter| letter.at);
    Ok(all)
}

/// Deletes letters; tells how many.
pub(crate) fn purge(root: &Path, ids: &[LetterId]) -> Result<u64> {
    let mut count = 0;
    for id in ids {
        count += u64::from(delete(&path(root, id.as_str()))?);
    }
    Ok(count)
}
