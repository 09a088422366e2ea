//! The durable backend of a fleet: tables of a PostgreSQL database.
//!
//! Read in this order: `settings` says what can be set and what is guaranteed, `schema` and the files
//! of `sql` what is stored and what the server does with it, `lines` how it is reached, `wake` how
//! buses hear of each other; then the parts of the work, a file each.

mod settings;
mod schema;
mod lines;
mod wants;
mod wake;
mod publish;
mod outbox;
mod claim;
mod resolve;
mod settle;
mod source;
mod listen;
mod groups;
mod letters;
mod accounts;
mod found;
mod writing;
mod journal;
mod commons;
mod retention;
mod look;
mod store;
mod inject;

pub(crate) use inject::{inject, server_time};
pub use look::look;
pub use outbox::Outbox;
pub use schema::{Grant, grants, script};
pub use settings::{CAPABILITY, SETTINGS};
pub use store::{check, migrate, open};
