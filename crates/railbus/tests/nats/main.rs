//! The backend on NATS, beside what the conformance suite shows of it.
#![cfg(feature = "nats")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scene;

mod kept;
mod opened;
mod others;
mod secured;
