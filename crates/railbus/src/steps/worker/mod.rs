//! Workers: commands that stay, and are given one task after another.

mod frame;
mod task;
mod hand;
mod workers;

pub(super) use hand::Broke;
pub(super) use task::Ask;
pub use workers::Workers;
