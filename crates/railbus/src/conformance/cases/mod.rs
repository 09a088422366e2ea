//! The cases, by what they are about.

mod publish;
mod payloads;
mod concurrent;
mod topics;
mod patterns;
mod groups;
mod keys;
mod resend;
mod many;
mod context;
mod bounded;
mod leases;
mod settle;
mod stale;
mod kill;
mod clocks;
mod dead;
mod redrive;
mod poison;
mod batches;
mod gathered;
mod outcomes;
mod positions;
mod delayed;
mod withdraw;
mod dedup;
mod drain;
mod close;
mod unclaimed;
mod stranger;
mod broken;
mod leaks;
mod list;

pub(super) use list::{Beside, CASES, Case};
