//! Executors: where steps run.

mod inline;
mod blocking;
mod threads;
#[cfg(feature = "processes")]
pub(crate) mod processes;
mod map;

pub use blocking::Blocking;
pub use inline::Inline;
#[cfg(feature = "processes")]
pub use processes::Processes;
pub use threads::Threads;
