//! Middleware that comes with Railbus.

mod timeout;
mod retry;
mod logging;
mod hooks;
mod closures;
mod key;
mod dedup;
mod rate;
#[cfg(feature = "tower")]
mod tower;

pub use closures::{After, Before, OnError, after, before, on_error};
#[doc(hidden)]
pub use closures::{HookFuture, InPlace, InTime, Watch, WatchError, Watched};
pub use dedup::Dedup;
pub use hooks::Hooks;
pub use logging::Logging;
pub use rate::RateLimit;
pub use timeout::Timeout;
#[cfg(feature = "tower")]
pub use tower::{Inner, Request, Tower};
