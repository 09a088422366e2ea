//! Calls of cargo, from the project's root.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
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

/// Builds the program and returns where it is. It is started from there and not by `cargo run`,
/// which would mix the compiler's warnings into what the program says.
pub(crate) fn program() -> Result<PathBuf, String> {
    let built = executables(&["build", "--package", "railbus-cli"])?;
    built.into_iter().next().ok_or_else(|| "the build named no executable".into())
}

/// Builds, and returns the executables that came of it.
pub(crate) fn executables(args: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut build = command(args);
    build.arg("--message-format=json-render-diagnostics");
    let output = build.stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| format!("{}: {e}", line(&build)))?;
    if !output.status.success() {
        return Err(format!("`{}`: {}", line(&build), output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(executable).collect())
}

/// Returns the executable that one of cargo's messages names.
fn executable(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    rest.split_once('"').map(|(path, _)| path.into())
}

fn line(command: &Command) -> String {
    let args: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    format!("cargo {}", args.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let library = "{\"reason\":\"compiler-artifact\",\"executable\":null}";
        assert_eq!(executable(library), None);
        let program = "{\"filenames\":[],\"executable\":\"/a/railbus\",\"fresh\":true}";
        assert_eq!(executable(program), Some("/a/railbus".into()));
    }
}
