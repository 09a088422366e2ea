//! Rows G1 to G3: Railbus by NOTIFY, beside the bare client on the same server.

mod order;
mod raw;
mod rows;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(rows::ROWS, 7)
}
