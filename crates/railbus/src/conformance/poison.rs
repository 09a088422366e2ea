//! Bytes that are no event, written into a store past all checks.

use crate::{
    clock::Timestamp,
    error::{Error, ErrorKind, Result},
};
use bytes::Bytes;
use rusqlite::{Connection, params};
use std::{sync::Arc, time::Duration};

/// Writes a row into the log of a sqlite store that another process might have damaged.
pub(super) async fn write_row(path: Arc<str>, topic: String, bytes: Bytes) -> Result<()> {
    let write = move || -> rusqlite::Result<()> {
        let connection = Connection::open(&*path)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute(
            "INSERT INTO events (id, type, topic, at, body) VALUES ('poison', ?1, ?1, ?2, ?3)",
            params![topic, Timestamp::now().as_micros(), &*bytes],
        )?;
        Ok(())
    };
    let failed = || Error::new(ErrorKind::Internal, "conformance", "cannot write a damaged row");
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|e| failed().because(e))?.map_err(|e| failed().because(e))
}
