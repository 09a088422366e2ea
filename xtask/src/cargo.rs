//! Calls of cargo, from the project's root.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What a task comes to: nothing, or why it failed.
pub(crate) type Outcome = Result<(), String>;

/// Returns the project's root: that of the clone the task was started in.
pub(crate) fn root() -> PathBuf {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let here = here.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).into());
    here.parent().map_or_else(|| here.clone(), Into::into)
}

/// Returns a call of the cargo that started this task.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Calls cargo and waits.
pub(crate) fn run(args: &[&str]) -> Outcome {
    done(&mut command(args))
}

/// Calls cargo with further arguments, as the user gave them.
pub(crate) fn run_with(args: &[&str], more: &[String]) -> Outcome {
    done(command(args).args(more))
}

/// Runs the command, its output shown, and says which one it was if it did not succeed.
pub(crate) fn done(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{}: {e}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}`: {status}", line(command))) }
}

fn line(command: &Command) -> String {
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    format!("cargo {}", args.join(" "))
}
