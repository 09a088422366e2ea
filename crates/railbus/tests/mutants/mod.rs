//! Backends that only say that they do: one list for all of them.
// Each file that hunts needs its part of it.
#![allow(dead_code, unused_imports)]

mod dedup;
mod mutant;
mod sent;
mod heard;
mod journaled;
mod wrapped;
mod spoilt;
mod hunted;
mod hunt;

pub(crate) use dedup::dedup_window;
pub(crate) use hunt::{
    all_are_caught, fails_by_the_clock, less_is_enough, one, passes_by_its_own_clock, sane_passes,
    some_are_caught, the_sane_one,
};
pub(crate) use hunted::{HUNTED, Hunted, Needs};
pub(crate) use mutant::Mutant;
