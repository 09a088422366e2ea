//! Amazon SQS: one queue a group, whose events stay until they are settled.
//!
//! Read in this order: `place` says which queue is whose and where it is, `settings` what can be set and
//! what is guaranteed, `fault` what an answer means, `ask` who asks again and when, `client` how the
//! service is reached, `queue` what is asked of one queue, `message` what is written of an event. Then the
//! parts of the work, a file each: `past`, `directory`, `service`, `publish`, `held`, `turns`, `dead`, `seat`,
//! `settle`, `source`, `letters`, `look`; `store` is the backend.

mod place;
mod settings;
mod fault;
mod ask;
mod client;
mod queue;
mod message;
mod past;
mod directory;
mod service;
mod publish;
mod held;
mod turns;
mod dead;
mod seat;
mod settle;
mod source;
mod letters;
mod look;
mod store;

pub(crate) use store::upstream;

pub use look::look;
pub use settings::{CAPABILITY, SETTINGS};
pub use store::{check, open};
