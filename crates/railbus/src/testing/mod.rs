//! For tests of programs on Railbus: a bus, doubles that fail on demand, recorders, virtual time, and
//! simulations of many orders and faults.
//!
//! `#[railbus::test]` makes an async function a test that ends. Virtual time, what is recorded of a
//! whole bus, and simulations are there with the feature `testing`, which belongs to a program's
//! `dev-dependencies`.

mod bus;
mod recorder;
mod case;
mod fate;
mod faulty;
mod double;
#[cfg(feature = "testing")]
mod seen;
#[cfg(feature = "testing")]
mod watching;
#[cfg(feature = "testing")]
mod time;
#[cfg(feature = "testing")]
mod sim;

pub use bus::bus;
pub use case::{Failed, run_test};
pub use double::Double;
pub use faulty::{Befall, Faulty};
pub use recorder::Recorder;
#[cfg(feature = "testing")]
pub use seen::{Records, Seen, What};
#[cfg(feature = "testing")]
pub use sim::{Found, Passed, Sim, Simulation, simulate};
#[cfg(feature = "testing")]
pub use time::{Time, in_virtual_time, time, virtual_time};
#[cfg(feature = "testing")]
pub use watching::{Watch, watch};
