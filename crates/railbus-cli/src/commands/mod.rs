//! The commands, a file each; each returns the exit code.

mod environment;
mod signals;
mod store;

mod certificates;
mod backends;
mod check;
mod completions;
mod conformance;
mod doctor;
mod letters;
mod report;
mod dlq;
mod groups;
mod migrate;
mod journaled;
mod runs;
mod payloads;
mod publish;
mod progress;
mod steps;
mod run;
mod subscribe;

mod dispatch;

pub(crate) use dispatch::{BROKEN, FAILURES, OK, dispatch};
