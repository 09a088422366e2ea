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
const BYTES_MAX: usize = 8 << 20;

/// What a claim came to.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The group is not there.
    Gone,
    /// The events, how soon there may be more, and where the order of keys is kept up to where all
    /// was taken in.
    Some(Vec<Again>, Option<Duration>, Option<Id>),
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
    max: usize,
    lease: u64,
) -> Result<Claimed> {
    let said = CLAIM.run(link, keys, "fetch", |command| {
        command.arg(group).arg(member).arg(max).arg(lease).arg(BYTES_MAX);
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
    let found: Option<Vec<_>> = list(next()).into_iter().map(|one| read(one, keys)).collect();
    let taken_in = text(next()).parse().ok();
    Ok(Claimed::Some(found.ok_or_else(|| odd("fetch"))?, soon, taken_in))
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
