//! What the members of a fleet have in common beside events: marks, and buckets of tokens.

mod contract;
mod local;

pub use contract::{Claim, Commons, Draw, Grant, Mark};
pub use local::Local;
