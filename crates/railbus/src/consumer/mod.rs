//! The engine between a source and the handlers: fetch with credit, keep leases alive, run,
//! settle.

mod call;
mod entry;
mod group;
mod leases;
mod settler;
mod work;

pub(crate) use call::{in_delivery, run_entry};
pub(crate) use entry::Entry;
pub(crate) use group::{Group, Start};
