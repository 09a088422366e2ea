//! Events: immutable envelopes around what happened.

mod kind;
mod envelope;
mod builder;
mod json;

pub use builder::{EventBuilder, IntoEvent};
pub use envelope::Event;
pub use kind::Type;
