//! The rows, in the order they are measured.

mod consumed;
mod ends;
mod latency;
mod published;

use harness::Rows;

/// Every row.
pub(crate) const ROWS: &Rows = &[
    ("S1", published::full),
    ("S1-normal", published::normal),
    ("S2", consumed::full),
    ("S2-normal", consumed::normal),
    ("S3", ends::full),
    ("S3-normal", ends::normal),
    ("S4", latency::measure),
];
