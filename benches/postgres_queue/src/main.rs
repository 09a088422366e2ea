//! Rows G4 to G6: Railbus in tables of PostgreSQL, beside the bare client with the same bytes.

mod order;
mod raw;
mod rows;
mod store;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(rows::ROWS, 7)
}
