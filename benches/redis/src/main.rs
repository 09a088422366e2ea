//! Rows R1 to R8: Railbus on Redis, beside the bare client.

mod latency;
mod memory;
mod order;
mod pubsub;
mod raw;
mod streams;

use std::process::ExitCode;

const ROWS: &harness::Rows = &[
    ("R1", pubsub::many),
    ("R2", latency::pubsub),
    ("R3", streams::alone),
    ("R4", streams::published),
    ("R5", streams::consumed),
    ("R6", streams::ends),
    ("R7", latency::streams),
    ("R8", memory::flat),
    ("R8-age", memory::flat_by_age),
];

fn main() -> ExitCode {
    harness::main(ROWS, 7)
}
