//! PostgreSQL: events broadcast live, by NOTIFY, to every bus that is open.
//!
//! Read in this order: `keys` lists what can be set, `settings` says where the server is, `tls` how
//! lines are encrypted, `fault` what errors mean, `identity` who answers, `drive` the task and
//! `session` the rest of one connection, `link` one that heals, `listener` one that listens: all
//! that is shared with `postgres-queue`. Then the backend itself: `channels` says where events go,
//! `capability` what is guaranteed, `spill` what is too large to be notified, `publish` how events
//! go out, `source` how they come in, `store` the whole, `look` what is told of it from outside.

pub(super) mod keys;
mod tls;
mod environment;
pub(super) mod settings;
pub(super) mod fault;
mod identity;
mod drive;
pub(super) mod session;
pub(super) mod link;
pub(super) mod listener;
mod channels;
mod capability;
mod spill;
mod publish;
mod source;
mod store;
mod look;

pub use capability::{CAPABILITY, SETTINGS, check};
pub use look::look;
pub use store::open;

pub(super) use fault::{closed, fault};
pub(super) use keys::with_server;
pub(super) use link::Link;
pub(super) use listener::{Hear, Heard, Listener};
pub(super) use session::Session;
pub(super) use settings::{Server, quote};
