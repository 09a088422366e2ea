//! Handlers of many events at once: gathered, handled together, settled each by itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broadcast;
mod group;
mod refused;
#[allow(dead_code)]
#[path = "../by_key/stores.rs"]
mod stores;
