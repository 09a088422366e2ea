//! What the server is told of an event that is leased.

use super::link::{Answer, Link};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// The group is through with it.
pub(super) const ACK: &[u8] = b"+ACK";
/// The lease starts anew.
pub(super) const PROGRESS: &[u8] = b"+WPI";

/// Returns what gives an event back.
pub(super) fn nak(delay: Duration) -> Bytes {
    match u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX) {
        0 => Bytes::from_static(b"-NAK"),
        nanos => Bytes::from(format!("-NAK {{\"delay\":{nanos}}}")),
    }
}

/// Says what becomes of events, and waits until the server has done it: it does so in their order, so
/// that the answer to the last one is that to all.
///
/// # Errors
/// Returns that the connection broke, or that there is no consumer any more; any of them may be done.
pub(super) async fn say(link: &Link, mut words: Vec<(Arc<str>, Bytes)>) -> Result<()> {
    let Some((last, word)) = words.pop() else { return Ok(()) };
    link.ready().await?;
    for (ack, word) in words {
        link.tell(&ack, None, word).await?;
    }
    match link.ask("settle", &last, None, word).await? {
        Answer::Came(_) => Ok(()),
        Answer::Nobody => Err(stale().with("why", "its consumer is gone")),
    }
}

/// Returns the error of a settlement under a lease that was lost.
pub(super) fn stale() -> Error {
    Error::new(ErrorKind::Stale, "settle", "the lease was lost, or the event was settled")
}
