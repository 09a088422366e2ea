//! A network that fails when it is told to.

mod fault;
mod link;
mod wire;
mod front;

pub use fault::Fault;
pub use front::Proxy;
