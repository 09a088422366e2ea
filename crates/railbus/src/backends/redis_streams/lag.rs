//! How far groups are, and what is left of them.

use super::{
    entry::Entry,
    groups::{Again, read_interest},
    id::Id,
    keys::Keys,
    script::{LAG, bytes, list, number, text},
};
use crate::{
    backend::{GroupInfo, SharedFilter},
    backends::redis::link::Link,
    clock::Timestamp,
    error::Result,
    predicate::Interest,
};
use redis::{Pipeline, Value};
use std::sync::Arc;

/// How many events one request reads.
const READ_MAX: usize = 512;

/// How a group stands on the server.
#[derive(Debug)]
struct Standing {
    native: String,
    interest: Interest,
    seen: Timestamp,
    dead_letters: u64,
    pending: u64,
    kept: u64,
    leased: u64,
    last: Id,
}

async fn standing(link: &Link, keys: &Keys, group: &str) -> Result<Option<Standing>> {
    let said = LAG.run(link, keys, "groups", |command| {
        command.arg(group);
    });
    let mut said = list(said.await?).into_iter();
    let Some(native) = said.next().map(text) else { return Ok(None) };
    let interest = read_interest(&said.next().map(text).unwrap_or_default())?;
    let mut next = || said.next().as_ref().and_then(number).unwrap_or(0);
    let seen = Timestamp::from_micros(next().saturating_mul(1000));
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let (dead_letters, pending) = (count(next()), count(next()));
    let (kept, leased) = (count(next()), count(next()));
    let last = said.next().map(text).and_then(|id| id.parse().ok()).unwrap_or(Id::FIRST);
    let standing = Standing { native, interest, seen, dead_letters, pending, kept, leased, last };
    Ok(Some(standing))
}

/// Lists the groups by name.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn groups(link: &Link, keys: &Keys) -> Result<Vec<GroupInfo>> {
    let mut all = Vec::new();
    for name in names(link, keys).await? {
        let Some(standing) = standing(link, keys, &name).await? else { continue };
        let wants: SharedFilter = Arc::new(standing.interest.compile());
        let behind = count(link, keys, &wants, (standing.last, None), usize::MAX).await?;
        all.push(GroupInfo {
            name,
            interest: standing.interest,
            lag: standing.pending + standing.kept + behind,
            leased: standing.leased,
            dead_letters: standing.dead_letters,
            last_seen: standing.seen,
        });
    }
    Ok(all)
}

/// Returns the names of all groups.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn names(link: &Link, keys: &Keys) -> Result<Vec<String>> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(format!("{}groups", keys.base));
    let said: Value = link.ask("groups", &command).await?;
    let mut names: Vec<_> = match said {
        Value::Set(names) | Value::Array(names) => names.into_iter().map(text).collect(),
        _ => Vec::new(),
    };
    names.sort_unstable();
    Ok(names)
}

/// Counts what the group is to see again after a replay.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn replayed(
    link: &Link,
    keys: &Keys,
    group: &str,
    (start, last): Again,
) -> Result<u64> {
    let Some(standing) = standing(link, keys, group).await? else { return Ok(0) };
    let wants: SharedFilter = Arc::new(standing.interest.compile());
    let all = count(link, keys, &wants, (start, Some(last)), usize::MAX).await?;
    // What is not settled is not seen again.
    let open = kept_ids(link, keys, group).await?;
    let open = open.iter().filter(|id| **id > start && **id <= last).count();
    Ok(all.saturating_sub(open as u64))
}

/// Counts what is wanted behind a place, up to another or to the end, until there are `most`.
async fn count(
    link: &Link,
    keys: &Keys,
    wants: &SharedFilter,
    (start, last): (Id, Option<Id>),
    most: usize,
) -> Result<u64> {
    let (mut from, mut found) = (format!("({start}"), 0);
    let to = last.map_or_else(|| "+".into(), |last| last.to_string());
    loop {
        let mut command = redis::cmd("XRANGE");
        command.arg(&keys.stream).arg(&from).arg(&to).arg("COUNT").arg(READ_MAX);
        let page = list(link.ask::<Value>("groups", &command).await?);
        let is_last = page.len() < READ_MAX;
        for entry in page.into_iter().filter_map(|one| Entry::read(one, keys)) {
            from = format!("({}", entry.id);
            found += u64::from(entry.into_wanted(wants));
        }
        if is_last || found >= most as u64 {
            return Ok(found);
        }
    }
}

/// Returns the ids of what was tried, held back or left to others.
async fn kept_ids(link: &Link, keys: &Keys, group: &str) -> Result<Vec<Id>> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(format!("{}t:{group}", keys.base)).arg(0).arg(-1);
    let said = list(link.ask::<Value>("groups", &command).await?);
    Ok(said.into_iter().filter_map(|id| Id::read(&bytes(id))).collect())
}

/// Tells whether a group has settled all that is of interest, events that are held back included.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn is_settled(
    link: &Link,
    keys: &Keys,
    group: &str,
    interest: &Interest,
) -> Result<bool> {
    let Some(standing) = standing(link, keys, group).await? else { return Ok(true) };
    let wants: SharedFilter = Arc::new(interest.compile());
    if standing.pending + standing.kept > 0 {
        let mut covers = interest.clone();
        // What is there may be of others alone.
        if !covers.add(&standing.interest)
            || is_any_wanted(link, keys, group, &standing, &wants).await?
        {
            return Ok(false);
        }
    }
    Ok(count(link, keys, &wants, (standing.last, None), 1).await? == 0)
}

async fn is_any_wanted(
    link: &Link,
    keys: &Keys,
    group: &str,
    standing: &Standing,
    wants: &SharedFilter,
) -> Result<bool> {
    let mut ids = kept_ids(link, keys, group).await?;
    let mut command = redis::cmd("XPENDING");
    command.arg(&keys.stream).arg(&standing.native).arg("-").arg("+").arg(10_000);
    let pending = list(link.ask::<Value>("groups", &command).await?);
    ids.extend(
        pending.into_iter().filter_map(|one| Id::read(&bytes(list(one).into_iter().next()?))),
    );
    for part in ids.chunks(READ_MAX) {
        let mut commands = Pipeline::with_capacity(part.len());
        for id in part {
            let id = id.to_string();
            commands.cmd("XRANGE").arg(&keys.stream).arg(&id).arg(&id);
        }
        let (_, said) = link.ask_all("groups", &commands).await?;
        // One whose fields are kept beside the stream may be of anybody.
        let wanted = |found: Value| match list(found).pop().and_then(|one| Entry::read(one, keys)) {
            Some(entry) => entry.into_wanted(wants),
            None => true,
        };
        if said.into_iter().any(wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}
