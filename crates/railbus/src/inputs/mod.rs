//! Inputs of an app: where its events come from.

#[cfg(feature = "app")]
mod lines;

#[cfg(feature = "app")]
mod record;

#[cfg(feature = "app")]
mod reader;

#[cfg(feature = "app")]
pub mod ndjson;

pub mod ticks;

#[cfg(feature = "webhook")]
pub mod http;
