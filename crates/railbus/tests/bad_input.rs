//! Bad input: what handlers, predicates, payloads, names and clocks do to a bus. Errors are clear,
//! nothing leaks, nothing hangs: a test that hangs ends after a minute.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "bad_input/handlers.rs"]
mod handlers;
#[path = "bad_input/names.rs"]
mod names;
#[path = "bad_input/payloads.rs"]
mod payloads;
#[path = "bad_input/runtimes.rs"]
mod runtimes;
#[path = "bad_input/stage.rs"]
mod stage;
#[path = "bad_input/steps.rs"]
mod steps;
