//! What runs around handlers, and what says how much is fetched for them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "middleware/credit.rs"]
mod credit;
#[path = "everywhere/faulty.rs"]
mod faulty;
