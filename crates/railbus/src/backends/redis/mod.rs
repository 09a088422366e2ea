//! Redis by pub/sub: every bus that is open hears what is published, live and at most once.
//!
//! Read in this order: `settings` says what can be set and what is guaranteed, `fault` what an error
//! of the server means, `aside` how large answers stay as they came, `client` how a connection is made,
//! `link` how one heals; `look` tells of the server from outside, `send` publishes. `listener` keeps
//! what was heard until it is fetched, `store` is the backend. `redis-streams` uses the first seven as
//! well.

pub(in crate::backends) mod settings;
pub(in crate::backends) mod fault;
pub(in crate::backends) mod aside;
pub(in crate::backends) mod client;
pub(in crate::backends) mod link;
pub(in crate::backends) mod look;
pub(in crate::backends) mod send;
mod listener;
pub(in crate::backends) mod store;

pub use look::look;
pub use settings::{CAPABILITY, SETTINGS};
pub use store::{check, open};
