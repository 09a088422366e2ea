//! The cases, by what they are about.

mod publish;
mod concurrent;
mod topics;
mod patterns;
mod resend;
mod leases;
mod stale;
mod kill;
mod dead;
mod poison;
mod drain;
mod close;
mod list;

pub(super) use list::{CASES, Case};
