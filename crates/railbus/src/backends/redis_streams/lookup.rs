//! Entries by their places, many in one request, and the newest place.

use super::{
    entry::Entry,
    id::Id,
    keys::Keys,
    script::{list, text},
};
use crate::{
    backends::redis::link::Link,
    error::{Error, ErrorKind, Result},
};
use redis::{Pipeline, Value};
use std::collections::BTreeMap;

/// Reads the entries at these places, in their order: one that is gone is none, and one that the server
/// did not look for has its error, which tells nothing of whether it is there.
///
/// # Errors
/// Returns why there was no answer.
pub(super) async fn look_up(
    link: &Link,
    keys: &Keys,
    operation: &'static str,
    ids: &[Id],
) -> Result<Vec<Result<Option<Entry>>>> {
    let mut commands = Pipeline::with_capacity(ids.len());
    for id in ids {
        let id = id.to_string();
        commands.cmd("XRANGE").arg(&keys.stream).arg(&id).arg(&id);
    }
    let (number, said) = link.ask_all(operation, &commands).await?;
    let read = |found: Value| match found.extract_error() {
        Ok(found) => Ok(list(found).pop().and_then(|one| Entry::read(one, keys))),
        Err(e) => Err(link.failed(operation, number, e)),
    };
    Ok(said.into_iter().map(read).collect())
}

/// Returns the newest place of the stream.
///
/// # Errors
/// Returns what the server says.
pub(super) async fn newest(link: &Link, keys: &Keys) -> Result<Id> {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg(&keys.stream);
    let said: Result<Value> = link.ask("listen", &command).await;
    let said = match said {
        // There is no stream before the first event.
        Err(e) if e.to_string().contains("no such key") => return Ok(Id::FIRST),
        said => said?,
    };
    let pairs: Vec<(String, Value)> = match said {
        Value::Map(pairs) => pairs.into_iter().map(|(key, value)| (text(key), value)).collect(),
        _ => Vec::new(),
    };
    let about: BTreeMap<_, _> = pairs.into_iter().collect();
    let last = about.get("last-generated-id").cloned().map(text);
    last.and_then(|id| id.parse().ok()).ok_or_else(|| {
        Error::new(ErrorKind::Internal, "listen", "the server does not tell the stream's last id")
    })
}
