//! The embedded durable backend: one SQLite file, shared by any number of processes.
//!
//! Read in this order: `settings` says what can be set and what is guaranteed, `schema` what is
//! stored, `timeline` the time that leases and delays are counted on, `turn` in what order processes write,
//! `file` how it is opened,
//! `look` what is told of it from outside, `writer` and `reader` the two threads that touch it,
//! `wake` how processes hear of each other's commits; then the parts of the work, a file each.

mod settings;
mod schema;
mod fault;
mod timeline;
mod turn;
mod file;
mod look;
mod watch;
mod wake;
mod keys;
mod groups;
mod accounts;
mod retention;
mod runs;
mod found;
mod trash;
mod publish;
mod writer;
mod reader;
mod claim;
mod letters;
mod settle;
mod source;
mod journal;
mod commons;
mod store;

pub use look::look;
pub use settings::{CAPABILITY, SETTINGS};
pub use store::{check, open};
