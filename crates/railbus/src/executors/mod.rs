//! Executors: where steps run.

mod blocking;

pub use blocking::Blocking;
