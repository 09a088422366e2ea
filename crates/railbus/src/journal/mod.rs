//! What a backend keeps of runs, so that a run goes on where its process died.

mod names;
mod record;
mod run;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod refusal;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod text;
mod contract;

pub use contract::Journal;
pub use record::{Record, RecordStatus, Recorded, RunError, Went};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use refusal::{has_ended, lost, no_run, twice, was_deleted};
pub use run::{Begun, Journaled, NewRun, RunEnd, RunFilter, RunInfo, RunLease, RunState, Told};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use text::{Ready, check_run, read_error, read_record, read_store, ready, write_error};
