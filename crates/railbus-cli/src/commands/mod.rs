//! The commands, a file each; each returns the exit code.

mod check;
mod progress;
mod run;
mod dispatch;

pub(crate) use dispatch::{BROKEN, FAILURES, OK, dispatch};
