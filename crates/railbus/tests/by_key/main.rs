//! Order by key: many workers, each key one event after another, whatever fails; on every store that
//! keeps it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stores;
mod handled;
mod claimed;
mod refused;
