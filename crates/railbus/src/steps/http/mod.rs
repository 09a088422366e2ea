//! A step that is a request: one JSON document posted, one answered.

mod statuses;
mod url;
mod client;
mod answered;
mod post;

pub use post::{HttpStep, OUTPUT_MAX, TIMEOUT};
pub use statuses::{Meaning, Statuses};
