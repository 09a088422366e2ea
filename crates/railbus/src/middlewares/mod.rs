//! Middleware that comes with Railbus.

mod timeout;

pub use timeout::Timeout;
