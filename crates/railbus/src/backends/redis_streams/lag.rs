//! How far groups are, and what is left of them.

use super::{
    entry::Entry,
    groups::{Again, read_interest},
    id::Id,
    keys::Keys,
    lookup::look_up,
    portion::Portion,
    script::{KEPT, LAG, bytes, list, number, text},
};
use crate::{
    backend::{GroupInfo, SharedFilter},
    backends::redis::link::Link,
    clock::Timestamp,
    error::Result,
    predicate::Interest,
};
use redis::Value;
use std::{collections::HashMap, sync::Arc};

/// How many events one request reads.
const READ_MAX: usize = 512;

/// How many places of events that were read one request asks for.
const PENDING_MAX: usize = 4096;

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
    /// How many events were not read yet, if the server knows.
    behind: Option<u64>,
}

async fn standing(
    link: &Link,
    keys: &Keys,
    group: &str,
    counts_leased: bool,
) -> Result<Option<Standing>> {
    let said = LAG.run(link, keys, "groups", |command| {
        command.arg(group).arg(u8::from(counts_leased));
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
    let behind = said.next().as_ref().and_then(number).and_then(|n| u64::try_from(n).ok());
    Ok(Some(Standing { native, interest, seen, dead_letters, pending, kept, leased, last, behind }))
}

/// Lists the groups by name.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn groups(link: &Link, keys: &Keys) -> Result<Vec<GroupInfo>> {
    let mut all = Vec::new();
    for name in names(link, keys).await? {
        let Some(standing) = standing(link, keys, &name, true).await? else { continue };
        let wants: SharedFilter = Arc::new(standing.interest.compile());
        let wants_all = standing.interest == Interest::all();
        let behind = match standing.behind.filter(|_| wants_all) {
            Some(behind) => behind,
            None => count(link, keys, &wants, (standing.last, None), usize::MAX).await?.0,
        };
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
    let Some(standing) = standing(link, keys, group, false).await? else { return Ok(0) };
    let wants: SharedFilter = Arc::new(standing.interest.compile());
    let all = count(link, keys, &wants, (start, Some(last)), usize::MAX).await?.0;
    // What is not settled is not seen again.
    let open = kept_ids(link, keys, group).await?;
    let open = open.iter().filter(|id| **id > start && **id <= last).count();
    Ok(all.saturating_sub(open as u64))
}

/// Counts what is wanted behind a place, up to another or to the end, until there are `most`; tells up
/// to where it looked.
async fn count(
    link: &Link,
    keys: &Keys,
    wants: &SharedFilter,
    (start, last): (Id, Option<Id>),
    most: usize,
) -> Result<(u64, Id)> {
    let (mut from, mut found) = (start, 0);
    let to = last.map_or_else(|| "+".into(), |last| last.to_string());
    let mut portion = Portion::default();
    loop {
        let count = portion.of(READ_MAX);
        let mut command = redis::cmd("XRANGE");
        command.arg(&keys.stream).arg(format!("({from}")).arg(&to).arg("COUNT").arg(count);
        let page = list(link.ask::<Value>("groups", &command).await?);
        let is_last = page.len() < count;
        let page: Vec<_> = page.into_iter().filter_map(|one| Entry::read(one, keys)).collect();
        portion.came(count, page.len(), page.iter().map(Entry::bytes).sum());
        for entry in page {
            from = entry.id;
            found += u64::from(entry.into_wanted(wants));
        }
        if is_last || found >= most as u64 {
            return Ok((found, from));
        }
    }
}

/// Returns the ids of what was tried, held back or left to others.
async fn kept_ids(link: &Link, keys: &Keys, group: &str) -> Result<Vec<Id>> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(keys.due(group)).arg(0).arg(-1);
    let said = list(link.ask::<Value>("groups", &command).await?);
    Ok(said.into_iter().filter_map(|id| Id::read(&bytes(id))).collect())
}

/// Looks whether groups are through, remembering what it need not look at again.
#[derive(Debug, Default)]
pub(super) struct Looks {
    // Up to where nothing is wanted, by group.
    places: HashMap<String, Id>,
}

impl Looks {
    /// Tells whether a group has settled all that is of interest, events that are held back included.
    ///
    /// # Errors
    /// Returns what the server says.
    pub(super) async fn is_settled(
        &mut self,
        link: &Link,
        keys: &Keys,
        group: &str,
        interest: &Interest,
    ) -> Result<bool> {
        let Some(standing) = standing(link, keys, group, false).await? else { return Ok(true) };
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
        let place = self.places.get(group).copied().unwrap_or(Id::FIRST).max(standing.last);
        let (found, place) = count(link, keys, &wants, (place, None), 1).await?;
        if found == 0 {
            self.places.insert(group.to_owned(), place);
        }
        Ok(found == 0)
    }
}

/// Tells whether anything is wanted that was read, tried, held back or left to others.
async fn is_any_wanted(
    link: &Link,
    keys: &Keys,
    group: &str,
    standing: &Standing,
    wants: &SharedFilter,
) -> Result<bool> {
    let ids = kept_ids(link, keys, group).await?;
    if is_wanted_of(link, keys, group, wants, &ids).await? {
        return Ok(true);
    }
    let mut from = "-".to_owned();
    loop {
        let mut command = redis::cmd("XPENDING");
        command.arg(&keys.stream).arg(&standing.native).arg(&from).arg("+").arg(PENDING_MAX);
        let page = list(link.ask::<Value>("groups", &command).await?);
        let is_last = page.len() < PENDING_MAX;
        let id = |one: Value| Id::read(&bytes(list(one).into_iter().next()?));
        let ids: Vec<_> = page.into_iter().filter_map(id).collect();
        if is_wanted_of(link, keys, group, wants, &ids).await? {
            return Ok(true);
        }
        match ids.last() {
            Some(last) if !is_last => from = format!("({last}"),
            _ => return Ok(false),
        }
    }
}

/// Tells whether any of these events is wanted.
async fn is_wanted_of(
    link: &Link,
    keys: &Keys,
    group: &str,
    wants: &SharedFilter,
    ids: &[Id],
) -> Result<bool> {
    for part in ids.chunks(READ_MAX) {
        let said = look_up(link, keys, "groups", part).await?;
        let mut beside = Vec::new();
        for (id, found) in part.iter().zip(said) {
            match found? {
                Some(entry) => {
                    if entry.into_wanted(wants) {
                        return Ok(true);
                    }
                }
                None => beside.push(*id),
            }
        }
        if !beside.is_empty() && is_kept_wanted(link, keys, group, wants, &beside).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells whether any of these events is wanted, whose fields are kept beside the stream. Those that
/// are nowhere were lost.
async fn is_kept_wanted(
    link: &Link,
    keys: &Keys,
    group: &str,
    wants: &SharedFilter,
    ids: &[Id],
) -> Result<bool> {
    let said = KEPT.run(link, keys, "groups", |command| {
        command.arg(group);
        for id in ids {
            command.arg(id.to_string());
        }
    });
    let kept = ids.iter().zip(list(said.await?));
    let mut entries = kept.filter_map(|(id, fields)| match fields {
        Value::Array(_) => Some(Entry::of(*id, fields, keys)),
        _ => None,
    });
    Ok(entries.any(|entry| entry.into_wanted(wants)))
}
