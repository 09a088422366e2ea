//! The rows, in the order they are measured.

mod latency;
mod lone;
mod many;

use harness::Rows;

/// Every row.
pub(crate) const ROWS: &Rows =
    &[("G1", lone::measure), ("G2", many::measure), ("G3", latency::measure)];
