//! The `railbus` program: event-driven applications from one file.

mod args;
mod output;
mod commands;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    // In the suite handlers fail on purpose: who wants to see each asks for it.
    if cli.verbose > 0 || !cli.command.fails_on_purpose() {
        output::start_logging(cli.verbose);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            output::error(
                &format!("cannot start: {e}"),
                Some("check the limits on threads and files"),
            );
            return ExitCode::from(commands::BROKEN);
        }
    };
    let code = runtime.block_on(commands::dispatch(cli));
    // Whatever still blocks, such as a read of stdin, must not keep the program.
    runtime.shutdown_background();
    ExitCode::from(code)
}
