//! Webhooks, in and out: a consumer of what is posted here, and a handler that posts to elsewhere.
//!
//! [`WebhookConsumer`] answers a sender when its event was handled, [`Endpoint`] posts a group's events
//! to a URL. Both sign by one [`Signature`].

mod accepting;
mod consumer;
mod wire;
mod wait;
mod breaker;
mod rate;
mod endpoint;

pub use crate::backends::webhook::{Encoding, SETTINGS, Signature, TOLERANCE};
pub use consumer::WebhookConsumer;
pub use endpoint::{Endpoint, IsEndpoint};
pub use wire::Mode;
