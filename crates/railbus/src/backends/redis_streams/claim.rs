//! Claiming: which events that were tried, held back or left a member gets next, leased to it.

use super::{
    entry::Entry,
    id::Id,
    keys::Keys,
    script::{CLAIM, bytes, list, number, odd, text},
};
use crate::{backends::redis::link::Link, error::Result};
use redis::Value;
use std::time::Duration;

/// How many bytes of events one claim leases, the last one over: memory stays bounded however large
/// the events are.
pub(super) const BYTES_MAX: usize = 8 << 20;

/// What a claim came to.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The group is not there.
    Gone,
    /// What there is.
    Some(Found),
}

/// What a claim found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) events: Vec<Again>,
    /// How soon there may be more.
    pub(super) soon: Option<Duration>,
    /// Up to where all was taken in, where the order of keys is kept.
    pub(super) taken_in: Option<Id>,
    /// Up to where it looked at what was left by others.
    pub(super) seen: u64,
}

/// What a claim asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) max: usize,
    /// How many bytes of events it leases at most, the last one over.
    pub(super) bytes: usize,
    pub(super) lease: u64,
    /// Up to where it was looked at what was left by others.
    pub(super) seen: u64,
    /// The fence of what it leases: one whose answer was lost is asked again with the same.
    pub(super) fence: u64,
}

/// An event that is delivered again, or that was held back.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) entry: Entry,
    pub(super) attempt: u32,
    pub(super) fence: u64,
    pub(super) lost: bool,
    pub(super) through: String,
}

/// Leases what can be fetched again.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn claim(
    link: &Link,
    keys: &Keys,
    (group, member): (&str, &str),
    asked: Asked,
) -> Result<Claimed> {
    let said = CLAIM.run(link, keys, "fetch", |command| {
        command.arg(group).arg(member).arg(asked.max).arg(asked.lease).arg(asked.bytes);
        command.arg(asked.seen).arg(asked.fence);
    });
    let mut said = list(said.await?).into_iter();
    let mut next = || said.next().unwrap_or(Value::Nil);
    if text(next()) != "ok" {
        return Ok(Claimed::Gone);
    }
    let soon = number(&next()).and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    if let Some(gone @ 1..) = number(&next()) {
        tracing::error!(
            group,
            events = gone,
            "events were removed from the stream before the group settled them: they are lost"
        );
    }
    let events: Option<Vec<_>> = list(next()).into_iter().map(|one| read(one, keys)).collect();
    let events = events.ok_or_else(|| odd("fetch"))?;
    let taken_in = text(next()).parse().ok();
    let seen = number(&next()).and_then(|seen| u64::try_from(seen).ok()).unwrap_or(asked.seen);
    Ok(Claimed::Some(Found { events, soon, taken_in, seen }))
}

fn read(value: Value, keys: &Keys) -> Option<Again> {
    let mut parts = list(value).into_iter();
    let id = Id::read(&bytes(parts.next()?))?;
    let attempt = number(&parts.next()?)?;
    let fence = number(&parts.next()?)?;
    let lost = number(&parts.next()?)? == 1;
    let through = text(parts.next()?);
    Some(Again {
        entry: Entry::of(id, parts.next()?, keys),
        attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        fence: u64::try_from(fence).ok()?,
        lost,
        through,
    })
}
