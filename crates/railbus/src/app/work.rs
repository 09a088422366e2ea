//! What does the work of a step, as an app file says it.

use std::path::PathBuf;

/// What does the work of a step.
///
/// # Examples
/// ```
/// use railbus::app::{AppSpec, CommandSpec, WorkSpec};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, r#"
///     bus.url = "memory:"
///     steps.check.command = ["sh", "check.sh"]
///     pipelines.look.flow = "check"
///     on = [{ pipeline = "look" }]
/// "#).unwrap();
/// let app = AppSpec::load(&path, std::iter::empty()).unwrap();
/// let WorkSpec::Command(command) = &app.steps[0].work else { panic!("no command") };
/// let command: &CommandSpec = command;
/// assert_eq!((command.program.to_str(), &command.args[..]), (Some("sh"), &["check.sh".into()][..]));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum WorkSpec {
    /// A command: one JSON document in, one out.
    Command(CommandSpec),
}

/// A command.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec {
    /// The program: absolute if the file has it with a `/`, else to be looked up in `PATH`.
    pub program: PathBuf,
    /// The program's arguments, as the file has them.
    pub args: Vec<String>,
}
