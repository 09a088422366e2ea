//! The rows, in the order they are measured.

mod consumed;
mod ends;
mod published;

use harness::Rows;

/// Every row.
pub(crate) const ROWS: &Rows = &[
    ("G4", published::measure),
    ("G5", consumed::measure),
    ("G6", ends::measure),
    ("G6-held", ends::held),
    ("G6-slope", ends::slope),
    ("G6-slope-held", ends::slope_held),
];
