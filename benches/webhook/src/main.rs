//! Rows W1 to W3: webhooks, beside the bare server and the bare client.

mod come;
mod go;
mod load;

use std::process::ExitCode;

const ROWS: &harness::Rows = &[("W1", come::many), ("W2", go::many), ("W3", come::among_idle)];

fn main() -> ExitCode {
    harness::main(ROWS, 7)
}
