//! From the command line to its command, and from there to the exit code.

use super::{
    backends, check, completions, conformance, dlq, doctor, groups, migrate, publish, run, runs,
    subscribe,
};
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
        Command::Publish(args) => publish::publish(&args, json).await,
        Command::Subscribe(args) => subscribe::subscribe(args, json).await,
        Command::Dlq(args) => dlq::dlq(&args, json).await,
        Command::Groups(args) => groups::groups(&args, json).await,
        Command::Runs(args) => runs::runs(&args, json).await,
        Command::Doctor(args) => doctor::doctor(args, json).await,
        Command::Migrate(args) => migrate::migrate(&args, json).await,
        Command::Backends => backends::backends(json),
        Command::Conformance(args) => conformance::conformance(args, json).await,
        Command::ConformanceMember => conformance::member().await,
        Command::Completions { shell } => completions::completions(shell),
    };
    done.unwrap_or_else(|e: Error| {
        output::failed(&e);
        BROKEN
    })
}
