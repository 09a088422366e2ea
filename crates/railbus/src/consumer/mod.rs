//! The engine between a source and the handlers: fetch with credit, keep leases alive, run,
//! settle.

mod able;
mod entry;
mod call;
mod settler;
mod leases;
mod left;
mod pace;
mod shared;
mod leaving;
mod hand;
mod work;
mod batch;
mod watch;
mod pull;
mod credits;
mod group;
#[cfg(all(test, railbus_loom))]
mod interleavings;

pub(crate) use able::{Able, Lack};
pub(crate) use call::run_entry;
pub(crate) use credits::Credits;
pub(crate) use entry::{Entry, Order};
pub(crate) use group::{Group, Start};
pub(crate) use pull::Pull;
