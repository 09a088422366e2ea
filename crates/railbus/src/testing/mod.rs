//! For tests of programs on Railbus: a bus, and a handler that remembers.
//!
//! `#[railbus::test]` makes an async function a test that ends.

mod bus;
mod recorder;
mod case;

pub use bus::bus;
pub use case::{Failed, run_test};
pub use recorder::Recorder;
