//! What runs around handlers, and what says how much is fetched for them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "middleware/credit.rs"]
mod credit;
#[path = "middleware/dedup.rs"]
mod dedup;
#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "middleware/hooks.rs"]
mod hooks;
#[path = "middleware/layers.rs"]
mod layers;
#[path = "middleware/rate.rs"]
mod rate;
#[path = "middleware/subscribers.rs"]
mod subscribers;
#[cfg(feature = "tower")]
#[path = "middleware/tower.rs"]
mod towers;
