//! How an event is written on every wire and in every store: CloudEvents 1.0, unless a bus is told
//! to speak as others do.

mod attributes;
mod cloudevents;
mod plain;
mod dataknobs;
mod format;

pub use cloudevents::{decode, encode};
pub use format::Format;
