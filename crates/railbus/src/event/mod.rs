//! Events: immutable envelopes around what happened.

mod kind;
mod envelope;
mod builder;
mod json;

pub(crate) use builder::OwnType;
pub use builder::{EventBuilder, IntoEvent};
pub use envelope::Event;
pub use kind::Type;
