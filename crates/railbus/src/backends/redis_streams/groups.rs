//! Groups: opened, widened, forgotten, replayed.

use super::{
    id::{Id, millis},
    keys::Keys,
    script::{OPEN, PRUNE, REPLAY, list, number, odd, text},
};
use crate::{
    backend::Start,
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
    predicate::Interest,
};
use redis::Value;
use std::time::Duration;

/// A group as a member knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Whether it was made by this call.
    pub(super) state: Opened,
    /// Counts the replays.
    pub(super) generation: u64,
    /// The consumer group of the stream.
    pub(super) native: String,
    /// Counts the changes of the interest.
    pub(super) version: String,
    /// What all members want together.
    pub(super) interest: Interest,
    /// Up to here what is read may be known from before a replay.
    pub(super) until: Option<Id>,
    /// Whether the order of keys is kept: then all is claimed, and nothing read.
    pub(super) keyed: bool,
}

impl Known {
    /// Returns the fence of an event that was read and not touched since.
    pub(super) fn fresh(&self) -> u64 {
        self.generation << 32
    }
}

/// How a group was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    New,
    Old,
    /// What was beside the stream was there, the stream's own part was not.
    Lost,
}

/// Who opens a group.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    pub(super) group: &'a str,
    pub(super) member: &'a str,
    pub(super) lease: Duration,
    pub(super) interest: &'a Interest,
    pub(super) start: Start,
    /// Whether a group that was pruned may come back.
    pub(super) anew: bool,
    /// Whether the order of keys is kept from here on.
    pub(super) keyed: bool,
}

/// Opens a group, creating it if it is missing, and adds the interest to what it wants.
///
/// # Errors
/// Returns a not-found error for one that was pruned, else what the server says.
pub(super) async fn open(link: &Link, keys: &Keys, opening: &Opening<'_>) -> Result<Known> {
    let start = match opening.start {
        Start::Oldest => "0".into(),
        Start::Newest => "$".into(),
        Start::At(time) => Id::before(time).to_string(),
    };
    let lease = millis(opening.lease);
    let (mut union, mut version) = (opening.interest.clone(), String::new());
    // Others may widen it at the same time.
    loop {
        let interest = write(&union);
        let said = OPEN.run(link, keys, "subscribe", |command| {
            command.arg(opening.group).arg(&interest).arg(&start).arg(opening.member);
            command.arg(lease).arg(&version).arg(u8::from(opening.anew));
            command.arg(u8::from(opening.keyed));
        });
        let known = read(said.await?, opening.group)?;
        let mut all = known.interest.clone();
        if !all.add(opening.interest) {
            return Ok(known);
        }
        (union, version) = (all, known.version);
    }
}

fn read(said: Value, group: &str) -> Result<Known> {
    let mut said = list(said).into_iter();
    let mut next = || said.next().unwrap_or(Value::Nil);
    let state = match &*text(next()) {
        "new" => Opened::New,
        "old" => Opened::Old,
        "lost" => Opened::Lost,
        "pruned" => return Err(pruned(group)),
        _ => return Err(odd("subscribe")),
    };
    let generation = number(&next()).and_then(|n| u64::try_from(n).ok());
    Ok(Known {
        state,
        generation: generation.ok_or_else(|| odd("subscribe"))?,
        native: text(next()),
        version: text(next()),
        interest: read_interest(&text(next()))?,
        until: text(next()).parse().ok(),
        keyed: number(&next()) == Some(1),
    })
}

fn write(interest: &Interest) -> String {
    // Texts and options of texts always encode.
    serde_json::to_string(interest).unwrap_or_else(|_| "[{}]".into())
}

pub(super) fn read_interest(text: &str) -> Result<Interest> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "groups", "a group's interest can't be read")
            .with("interest", text)
            .because(e)
    })
}

/// Returns the error for a group that was pruned while a member was there.
pub(super) fn pruned(group: &str) -> Error {
    Error::new(ErrorKind::NotFound, "fetch", "the group was pruned while it was open")
        .with("group", group)
        .hint("start the program again to open it anew")
}

/// Forgets a group; false if there is none of that name.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn prune(link: &Link, keys: &Keys, group: &str) -> Result<bool> {
    let said = PRUNE.run(link, keys, "prune", |command| {
        command.arg(group);
    });
    Ok(number(&said.await?) == Some(1))
}

/// What a group is to see again: what lies behind the first and up to the second.
pub(super) type Again = (Id, Id);

/// Lets a group see again what it has settled since `start`; none if there is no such group.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn replay(
    link: &Link,
    keys: &Keys,
    group: &str,
    start: Start,
) -> Result<Option<Again>> {
    let start = match start {
        Start::Oldest => "0-0".into(),
        Start::Newest => "$".into(),
        Start::At(time) => Id::before(time).to_string(),
    };
    let said = REPLAY.run(link, keys, "replay", |command| {
        command.arg(group).arg(&start);
    });
    let mut said = list(said.await?).into_iter().map(text);
    let mut next = || said.next().unwrap_or_default();
    if next() != "ok" {
        return Ok(None);
    }
    match (next().parse(), next().parse()) {
        (Ok(start), Ok(last)) => Ok(Some((start, last))),
        _ => Err(odd("replay")),
    }
}
