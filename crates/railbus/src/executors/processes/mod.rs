//! Pools of worker processes.

pub(crate) mod wire;
mod registry;
pub(crate) mod message;
mod pipe;
mod child;
mod seats;
mod line;
mod pool;

pub use pool::Processes;
pub use registry::Registry;
pub(crate) use registry::register;
