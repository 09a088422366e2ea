//! What a backend keeps of runs, so that a run goes on where its process died.

mod names;
mod record;
mod run;
#[cfg(feature = "sqlite")]
mod text;
mod contract;

pub use contract::Journal;
pub use record::{Record, RecordStatus, Recorded, RunError, Went};
pub use run::{Begun, Journaled, NewRun, RunEnd, RunFilter, RunInfo, RunLease, RunState, Told};
#[cfg(feature = "sqlite")]
pub(crate) use text::{check_run, read_error, read_record, read_store, write_error, write_record};
