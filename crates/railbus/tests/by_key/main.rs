//! Order by key: many workers, each key one event after another, whatever fails; on every store that
//! keeps it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod stores;
mod handled;
mod claimed;
mod processes;
mod refused;

use railbus::backend::{Capability, Keyed};

/// Tells whether a backend keeps the order of keys over all members.
fn keyed(capability: &Capability) -> bool {
    capability.keyed == Keyed::Group
}
