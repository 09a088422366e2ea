//! The log: one file an event, numbered without gaps.

use crate::files::{failed, now, scratch};
use bytes::Bytes;
use railbus::{
    Error, ErrorKind, Event, Result,
    backend::{Outgoing, Undecodable},
    codec,
    predicate::Filter,
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What is known of an event without decoding it: the first line of its file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    #[serde(rename = "type")]
    pub(crate) event_type: String,
    pub(crate) topic: String,
    /// When it was stored, in microseconds since 1970.
    pub(crate) at: u64,
}

/// An event as it lies in the log.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    body: Bytes,
}

impl Entry {
    /// Decodes it: only for who wants it, as everybody reads all of the log.
    pub(crate) fn event(&self) -> Result<Event, Undecodable> {
        codec::decode(&self.body).map_err(|error| Undecodable { raw: self.body.clone(), error })
    }

    pub(crate) fn is_wanted(&self, filter: &Filter) -> bool {
        filter.matches(&self.head.event_type, &self.head.topic)
    }
}

fn path(root: &Path, number: u64) -> PathBuf {
    root.join("events").join(format!("{number:020}"))
}

/// Checks and encodes an event: what goes into its file.
pub(crate) fn encode(outgoing: &Outgoing, payload_max: usize) -> Result<Vec<u8>> {
    let event = &outgoing.event;
    event.check()?;
    let size = event.raw_payload().text()?.len();
    if size > payload_max {
        let why = "the payload is too large for the directory";
        return Err(Error::new(ErrorKind::TooLarge, "publish", why)
            .with("event", event.id())
            .with("bytes", size)
            .with("allowed", payload_max));
    }
    file(event.event_type(), event.topic(), &codec::encode(event)?)
}

fn file(event_type: &str, topic: &str, body: &[u8]) -> Result<Vec<u8>> {
    let head = Head { event_type: event_type.into(), topic: topic.into(), at: now() };
    let mut bytes = serde_json::to_vec(&head)
        .map_err(|e| Error::new(ErrorKind::Encode, "publish", "no head").because(e))?;
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Adds a file to the log, after all that are there; `last` is a number that is known to be taken.
/// Returns its number.
///
/// A file gets its number by a link, which fails if there is one of that number. Whoever tries a
/// number has seen the one before it, so that there are no gaps: readers go from one to the next.
pub(crate) fn append(root: &Path, bytes: &[u8], last: u64) -> Result<u64> {
    let file = scratch(root, bytes).map_err(failed("publish", root))?;
    let mut number = last;
    let linked = loop {
        number += 1;
        match fs::hard_link(&file, path(root, number)) {
            Ok(()) => break Ok(number),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => break Err(failed("publish", root)(e)),
        }
    };
    // The link is the event; a name that is left behind is nobody's.
    let _ = fs::remove_file(file);
    linked
}

/// Stores bytes as they are, past all checks, as a foreign program might: for tests.
///
/// # Errors
/// Returns an error if they can't be stored.
pub fn append_raw(root: &Path, topic: &str, bytes: &[u8]) -> Result<()> {
    append(root, &file(topic, topic, bytes)?, last(root, 0)).map(drop)
}

/// Reads an event; none if the log ends before it.
pub(crate) fn read(root: &Path, number: u64) -> Result<Option<Entry>> {
    let path = path(root, number);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", &path)(e)),
    };
    let length = bytes.len();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(length);
    let head = serde_json::from_slice(&bytes[..line]).map_err(|e| {
        Error::new(ErrorKind::Corrupt, "read", "an event's file is damaged")
            .with("path", path.display())
            .because(e)
    })?;
    let body = Bytes::from(bytes).slice((line + 1).min(length)..);
    Ok(Some(Entry { head, body }))
}

/// Returns the number of the last event, looking from one that is there, in ever longer strides and
/// then between the last two: there are no gaps.
pub(crate) fn last(root: &Path, from: u64) -> u64 {
    let is_there = |number| path(root, number).exists();
    let (mut there, mut stride) = (from, 1);
    while is_there(there + stride) {
        there += stride;
        stride *= 2;
    }
    while stride > 1 {
        stride /= 2;
        if is_there(there + stride) {
            there += stride;
        }
    }
    there
}
