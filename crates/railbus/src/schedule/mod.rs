//! Schedules: when something is due, as a pure function of the time.

mod tick;
#[cfg(feature = "cron")]
mod cron;
mod value;
mod backlog;

pub(crate) use backlog::{Due, due};
#[cfg(all(feature = "cron", feature = "app"))]
pub(crate) use cron::{Cron, Wrong};
pub use tick::{Missed, Tick};
pub use value::Schedule;
