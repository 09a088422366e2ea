//! What does the work of a step, as an app file says it.

use crate::steps::command::Mode;
#[cfg(feature = "http")]
use crate::steps::http::HttpStep;
use std::path::PathBuf;

/// What does the work of a step.
///
/// # Examples
/// ```
/// use railbus::{app::{AppSpec, CommandSpec, ProcessesSpec, WorkSpec}, steps::command::Mode};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, r#"
///     bus.url = "memory:"
///     steps.check = { command = ["sh", "check.sh"], mode = "worker", executor = { kind = "processes" } }
///     pipelines.look.flow = "check"
///     on = [{ pipeline = "look" }]
/// "#).unwrap();
/// let app = AppSpec::load(&path, std::iter::empty()).unwrap();
/// let WorkSpec::Command(command) = &app.steps[0].work else { panic!("no command") };
/// let command: &CommandSpec = command;
/// let any = ProcessesSpec { max_workers: None, max_tasks_per_child: None };
/// assert_eq!((command.mode, &command.executor), (Mode::Worker, &Some(any)));
/// assert_eq!((command.program.to_str(), &command.args[..]), (Some("sh"), &["check.sh".into()][..]));
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum WorkSpec {
    /// A command: one JSON document in, one out.
    Command(CommandSpec),
    /// A request: one JSON document posted, one answered.
    #[cfg(feature = "http")]
    Post(Box<PostSpec>),
}

/// A command.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec {
    /// The program: absolute if the file has it with a `/`, else to be looked up in `PATH`.
    pub program: PathBuf,
    /// The program's arguments, as the file has them.
    pub args: Vec<String>,
    /// How it is spoken to (default: one document in, one out).
    pub mode: Mode,
    /// How many processes run at once; commands of which this is equal share them. `None`: as many
    /// as are asked for, of workers as many as there are cores.
    pub executor: Option<ProcessesSpec>,
}

/// How many processes run at once for commands.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessesSpec {
    /// How many (default: the cores).
    pub max_workers: Option<usize>,
    /// After how many tasks a worker is replaced; `None`: it lives on.
    pub max_tasks_per_child: Option<u32>,
}

/// A request to a server.
///
/// # Examples
/// ```
/// use railbus::app::{AppSpec, PostSpec, WorkSpec};
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("app.toml");
/// std::fs::write(&path, r#"
///     bus.url = "memory:"
///     pipelines.pay.flow = "charge"
///     on = [{ pipeline = "pay" }]
///     [steps.charge]
///     post = "https://pay.example.org/charges"
///     headers_env = { authorization = "PAY_AUTHORIZATION" }
///     status = { failure = [409], retry = ["5xx"] }
/// "#).unwrap();
/// let environment = [("PAY_AUTHORIZATION".into(), "Bearer 123".into())];
/// let app = AppSpec::load(&path, environment.into_iter()).unwrap();
/// let WorkSpec::Post(post) = &app.steps[0].work else { panic!("no post") };
/// let post: &PostSpec = post; // in a box
/// assert!(format!("{:?}", post.request).contains("authorization"));
/// assert!(!format!("{app:?}").contains("123"));
/// ```
#[cfg(feature = "http")]
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct PostSpec {
    /// The request: where it goes, with which headers, and what its answers mean.
    pub request: HttpStep,
}
