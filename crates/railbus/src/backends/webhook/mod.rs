//! Webhooks that come in: each request is an event of one group, and is answered when it was handled.
//!
//! Read in this order: `secret` and `signature` say who may send, `answer` what a sender is told,
//! `settings` what can be set and what is guaranteed, `cloudevents` and `reading` what of a request
//! becomes what of an event; `ids` knows which were here before, `desk` those in hand; `body` reads
//! within bounds, `door` is a request's way through all of it. Then the contracts: `source`, `store`,
//! and between them `tls` and `server`.

mod secret;
mod signature;
mod answer;
mod settings;
mod cloudevents;
mod reading;
mod ids;
mod desk;
mod body;
mod door;
mod source;
mod tls;
mod server;
mod store;

#[cfg(feature = "app")]
pub(crate) use settings::signature;
pub use settings::{CAPABILITY, SETTINGS};
pub use signature::{Encoding, Signature, TOLERANCE};
pub(crate) use store::Webhook;
pub use store::{check, look, open};
