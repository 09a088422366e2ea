//! Rows P1 to P7: runs of pipelines, beside the shortest code that does the same work.

mod built;
mod kept;
mod pools;
mod processes;
mod steps;

use std::process::ExitCode;

/// Every row, in the order they are measured.
const ROWS: &harness::Rows = &[
    ("P1", steps::sync),
    ("P2", steps::observed),
    ("P3", steps::asynchronous),
    ("P4", pools::threads),
    ("P5", processes::alone),
    ("P5-16", processes::at_once),
    ("P6", built::large),
    ("P7", kept::full),
    ("P7-normal", kept::normal),
];

fn main() -> ExitCode {
    railbus::worker::init(processes::steps());
    if std::env::args().nth(1).as_deref() == Some(processes::ECHO) {
        return processes::echo();
    }
    harness::main(ROWS, 9)
}
