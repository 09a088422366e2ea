//! Backends that only say that they do: one list for all of them.

mod mutant;
mod wrapped;
mod hunt;

pub(crate) use hunt::{HUNTED, all_are_caught, the_sane_one};
pub(crate) use mutant::Mutant;
