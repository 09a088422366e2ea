//! What all benchmarks share: rows whose contenders take turns, and the table they come to.

mod arguments;
mod measure;
mod row;
mod spread;
mod table;

pub use arguments::{Arguments, Rows, Settings, main};
pub use measure::{Timed, processor, timed};
pub use row::{Contender, Goal, Row, Samples};
pub use table::Sheet;

/// Why a benchmark could not be measured.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What a benchmark comes to.
pub type Result<T> = std::result::Result<T, Failed>;
