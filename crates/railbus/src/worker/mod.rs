//! Worker processes, seen from inside: the program, started once more to run steps.

mod channel;
mod log;
mod serve;

pub use crate::executors::processes::Registry;
pub use serve::init;
