//! Rows P1 to P6: runs of pipelines, beside the shortest code that does the same work.

mod built;
mod pools;
mod steps;

use std::process::ExitCode;

/// Every row, in the order they are measured.
const ROWS: &harness::Rows = &[
    ("P1", steps::sync),
    ("P2", steps::observed),
    ("P3", steps::asynchronous),
    ("P4", pools::threads),
    ("P6", built::large),
];

fn main() -> ExitCode {
    harness::main(ROWS, 9)
}
