//! PostgreSQL: events broadcast live, by NOTIFY.
//!
//! Read in this order: `settings` says where the server is, `tls` how lines are encrypted, `fault`
//! what errors mean, `session` one connection, `link` one that heals, `listener` one that listens.

mod tls;
mod settings;
mod fault;
mod identity;
mod session;
mod link;
mod listener;

pub(super) use fault::{closed, fault};
pub(super) use link::Link;
pub(super) use listener::{Hear, Heard, Listener};
pub(super) use session::Session;
pub(super) use settings::{SERVER, Server, quote, with_server};
