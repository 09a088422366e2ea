//! What is refused, in the same words whoever keeps the runs.

use super::run::RunEnd;
use crate::error::{Error, ErrorKind};

/// Builds the error for a lease that `owner` has now.
pub(crate) fn lost(run: &str, owner: &str) -> Error {
    let owner = owner.escape_debug();
    stale(run, format!("the run's lease was lost: `{owner}` has taken it over"))
}

/// Builds the error for a run that has ended.
pub(crate) fn has_ended(run: &str, how: RunEnd) -> Error {
    stale(run, format!("the run has ended: {how}"))
}

/// Builds the error for a run that was pruned while someone held it.
pub(crate) fn was_deleted(run: &str) -> Error {
    stale(run, "the run was deleted".into())
}

fn stale(run: &str, why: String) -> Error {
    Error::new(ErrorKind::Stale, "journal", why).with("run", run.escape_debug())
}

/// Builds the error for a place that has another record.
pub(crate) fn twice(run: &str, path: &str, visit: u32) -> Error {
    let why = "the place is recorded already, with another outcome";
    Error::new(ErrorKind::Internal, "journal", why)
        .with("run", run.escape_debug())
        .with("path", path.escape_debug())
        .with("visit", visit)
        .hint("a path names one place, and each visit to it has a number of its own")
}

/// Builds the error for an id that no run has.
pub(crate) fn no_run(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, "journal", "there is no such run")
        .with("run", id.escape_debug())
        .hint("`railbus runs ls URL` lists the runs there are")
}
