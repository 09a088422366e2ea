//! A step that is a request: one JSON document posted, one answered.

mod statuses;
pub(crate) mod url;
pub(crate) mod reach;
pub(crate) mod client;
mod answered;
mod post;

#[cfg(feature = "webhook")]
pub(crate) use post::encoded;
pub use post::{HttpStep, OUTPUT_MAX, TIMEOUT};
pub use statuses::{Meaning, Statuses};
