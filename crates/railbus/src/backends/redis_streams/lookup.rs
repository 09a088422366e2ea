//! Entries by their places, many in one request.

use super::{entry::Entry, id::Id, keys::Keys, script::list};
use crate::{backends::redis::link::Link, error::Result};
use redis::{Pipeline, Value};

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
