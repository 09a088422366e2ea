//! What others need to do the same.

pub(crate) mod bevy;
pub(crate) mod broadcast;
pub(crate) mod evenio;
pub(crate) mod ruststream;
