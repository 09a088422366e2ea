//! Redis streams: broadcasts, and groups whose events stay until they are settled.
//!
//! Read in this order: `keys` says what lies where, `settings` what can be set and what is
//! guaranteed, `id` how an event's place is written, `script` what runs in the server, in one step each;
//! `frame` takes apart what a read answers, `plain` and `entry` are what is stored of an event, which
//! `lookup` finds. Then the
//! parts of the work, a file each: `trim`, `publish`, `rights`, `groups`, `claim`, `portion`, `settle`,
//! `unwanted`, `reader`, `member`, `fresh`, `source`, `listen`, `letters`, `lag`, `tally`, `accounts`,
//! `poison`, `commons`; `store` is the backend.

mod keys;
mod settings;
mod id;
mod script;
mod frame;
mod plain;
mod entry;
mod lookup;
mod trim;
mod publish;
mod rights;
mod groups;
mod claim;
mod portion;
mod settle;
mod unwanted;
mod reader;
mod member;
mod fresh;
mod source;
mod listen;
mod letters;
mod lag;
mod tally;
mod accounts;
mod poison;
mod commons;
mod store;

pub(crate) use poison::{server_time, write_entry};
pub use settings::{CAPABILITY, SETTINGS, look};
pub use store::{check, open};
