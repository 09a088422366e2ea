//! Events inside one process: broadcasts are delivered within publish, groups have bounded queues.
//!
//! Read in this order: `settings` says what can be set and what is guaranteed, `record` what is
//! remembered of an event that did not simply succeed, `letters` are the dead ones, `keys`
//! what waits for its key, `held` what is held back by its id, `waiting` what waits for its time,
//! `queue` what a group has not settled, `group` the group itself, `line` who waits for room, `store`
//! all groups under one lock; then the contracts: `source`, `connection`.

mod settings;
mod record;
mod letters;
mod keys;
mod held;
mod waiting;
mod queue;
mod group;
mod line;
mod store;
mod source;
mod connection;
#[cfg(all(test, railbus_loom))]
mod interleavings;

pub use connection::{Memory, check, open};
pub use settings::{CAPABILITY, SETTINGS, Wire};
