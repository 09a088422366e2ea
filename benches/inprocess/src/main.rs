//! Rows I1 to I8: Railbus in one process, beside the shortest code with the same guarantee and
//! beside its peers.

mod arrivals;
mod floor;
mod order;
mod peers;
mod rows;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(rows::ROWS, 15)
}
