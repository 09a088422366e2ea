//! Which command runs, and with which code the program ends.

use super::{check, run};
use crate::{
    args::{Cli, Command},
    output,
};
use railbus::error::Error;

/// All well.
pub(crate) const OK: u8 = 0;
/// Could not start, or broke.
pub(crate) const BROKEN: u8 = 1;
/// Finished with failed or dead-lettered events.
pub(crate) const FAILURES: u8 = 3;

/// Runs the command and returns the exit code.
pub(crate) async fn dispatch(cli: Cli) -> u8 {
    let json = cli.json;
    let done = match cli.command {
        Command::Run(args) => run::run(args, json).await,
        Command::Check(args) => check::check(&args, json),
        _ => Ok(BROKEN),
    };
    done.unwrap_or_else(|e: Error| {
        output::failed(&e);
        BROKEN
    })
}
