//! Rows S1 to S4: Railbus on SQLite, beside the bare client with the same bytes.

mod listener;
mod order;
mod raw;
mod rows;
mod store;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match &args[..] {
        [word, kind, place] if word == "listen" => listener::run(kind, place),
        _ => harness::main(rows::ROWS, 7),
    }
}
