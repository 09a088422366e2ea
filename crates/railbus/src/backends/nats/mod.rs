//! NATS: broadcasts by core subjects, and groups whose events are kept in a stream of JetStream.
//!
//! Read in this order: `settings` says what can be set and what is guaranteed, `subject` how topics and
//! groups are named on the server, `wire` how an event is written; `fault` says what errors mean. `tls`
//! and `link` are the connection, `api` is what can be asked of JetStream, `streams` what lies there.
//! Then the parts of the work, a file each: `groups`, `held`, `pull`, `word`, `lease`, `member`, `letters`,
//! `redrive`, `settle`, `trim`, `publish`, `listen`, `lag`, `look`, `poison`; `store` is the backend.

mod settings;
mod subject;
mod wire;
mod fault;
mod tls;
mod link;
mod api;
mod streams;
mod groups;
mod held;
mod pull;
mod word;
mod lease;
mod member;
mod letters;
mod redrive;
mod settle;
mod trim;
mod publish;
mod listen;
mod lag;
mod look;
mod poison;
mod store;

pub use look::look;
pub(crate) use poison::{server_time, write_message};
pub use settings::{CAPABILITY, SETTINGS};
pub use store::{check, open};
