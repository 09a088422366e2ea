//! The servers' programs: which there are, where they are found, how they are installed.

mod kinds;
mod program;
mod docker;
mod debian;
mod find;

pub(crate) use docker::{path_of_docker, tell};
pub(crate) use find::{file, find};
pub(crate) use kinds::{Kind, NATS, PGBOUNCER, PIP, POSTGRES, PYTHON, REDIS};
pub(crate) use program::Program;
