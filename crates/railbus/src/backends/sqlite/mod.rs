//! The embedded durable backend: one SQLite file, shared by any number of processes.
//!
//! Read in this order: [`settings`] says what can be set and what is guaranteed, `schema` what is
//! stored, `file` how it is opened, `writer` and `reader` the two threads that touch it, `wake`
//! how processes hear of each other's commits; then the parts of the work, a file each.

mod accounts;
mod claim;
mod fault;
mod file;
mod groups;
mod letters;
mod publish;
mod reader;
mod retention;
mod schema;
mod settings;
mod settle;
mod source;
mod store;
mod wake;
mod writer;

pub use settings::{CAPABILITY, SETTINGS};
pub use store::open;
