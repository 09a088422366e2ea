//! Simulations: a program's handlers in many orders, with many faults, each from a seed.

mod quiet;
mod luck;
mod ledger;
mod world;
mod jostle;
mod fate;
mod process;
mod handle;
mod found;
mod simulation;

pub use found::{Found, Passed};
pub use handle::Sim;
pub use simulation::{Simulation, simulate};
