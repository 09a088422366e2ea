//! A step that is a command: one JSON document in, one out.

use super::{
    answer,
    child::{Child, End, Heard, Limits},
    document::Document,
    worker::{Ask, Broke, Workers},
};
use crate::{
    error::{Error, ErrorKind, Result},
    step::{Exception, Input, Signature, Step, StepError, StepResult},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{env, io, os::unix::ffi::OsStrExt, path::PathBuf, process::ExitStatus, time::Duration};
use tokio::process::Command;

/// How long a command may take if nothing else is said.
pub const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How many bytes a command may write to stdout if nothing else is said.
pub const OUTPUT_MAX: usize = 8 * 1024 * 1024;

/// Variables with this prefix are the program's own and may hold URLs with secrets.
const OWN_PREFIX: &[u8] = b"RAILBUS_";

/// A step that runs a command for each task, or gives each to a worker, as [`Mode`] says.
///
/// The command is argv, never a shell line, and event data never reaches it. Its stdin is one JSON
/// text: the values of [`CommandStep::input`] as an object; without it what was piped to the step,
/// else the event's payload, as it is. Its environment is the program's without `RAILBUS_…`, plus `RAILBUS_EVENT_ID`, `RAILBUS_EVENT_TYPE`, `RAILBUS_TOPIC`,
/// `RAILBUS_CORRELATION_ID`, `RAILBUS_ATTEMPT`, `RAILBUS_TRY` and `RAILBUS_GUARD`, by which a
/// left-over child is found.
///
/// | exit | stdout | comes to |
/// |---|---|---|
/// | 0 | nothing but whitespace | success without a value |
/// | 0 | `{"failure": TEXT}` or `{"failure": {"message": TEXT, "value": ..}}` | that failure |
/// | 0 | `{"exception": {"kind": TEXT, "message": TEXT}}` | that exception |
/// | 0 | any other JSON document | success with that value |
/// | 0 | anything else, or too much | exception `output` |
/// | not 0 | | exception `exit` |
/// | by a signal | | exception `signal` |
/// | not within the timeout | | exception `timeout` |
/// | could not be started | | exception `spawn` |
/// | was not, since it would have got nothing | | exception `input` |
/// | was not, since a value is not encodable | | exception `encode` |
///
/// Exceptions say which command and end with the tail of its stderr. A command that does not read
/// its stdin is fine. It runs in a process group of its own, all of which is killed when the
/// command ends, when it takes too long, when the run is dropped, and when the program dies, even
/// by SIGKILL; only a process that leaves the group on purpose escapes.
///
/// # Examples
/// ```
/// use railbus::{Event, Pipeline, steps::command::{CommandStep, OUTPUT_MAX, TIMEOUT}};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let step = CommandStep::new(["sh", "-c", "cat"])?
///     .cwd("/")
///     .timeout(Duration::from_secs(10))
///     .output_max(1024);
/// assert!(Duration::from_secs(10) < TIMEOUT && 1024 < OUTPUT_MAX);
/// let step = railbus::StepDef::of(step).named("echo");
/// let pipeline = Pipeline::new("p").step(step).build()?;
/// let report = pipeline.run_event(&Event::new("order.placed").payload([1, 2]), 1).await;
/// assert_eq!(*report.get::<Vec<u8>>("echo")?, [1, 2]);
/// # Ok::<(), railbus::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct CommandStep {
    argv: Vec<String>,
    cwd: Option<PathBuf>,
    document: Document,
    limits: Limits,
    mode: Mode,
    workers: Option<Workers>,
    name: String,
}

/// How a command is spoken to.
///
/// # Examples
/// ```
/// use railbus::steps::command::{CommandStep, Mode};
///
/// let each = CommandStep::new(["./check.py"])?.mode(Mode::Document); // as it is anyway
/// let stays = CommandStep::new(["./worker.py"])?.mode(Mode::Worker).step_name("transform");
/// # Ok::<(), railbus::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is started for each task, reads one document and writes one.
    #[default]
    Document,
    /// It stays, and is given one task after another, in frames: `docs/worker-protocol.md`.
    Worker,
}

impl CommandStep {
    /// Creates a step that runs `argv`: a program and its arguments.
    ///
    /// A program without a slash is looked up in `PATH`; a relative one starts from
    /// [`CommandStep::cwd`].
    ///
    /// # Errors
    /// Returns a config error if there is no program or an argument has a NUL character.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let argv: Vec<String> = argv.into_iter().map(Into::into).collect();
        let refuse = |why| {
            Err(Error::new(ErrorKind::Config, "command", why)
                .hint("write it as a list: the program, then each argument"))
        };
        match argv.first() {
            None => refuse("the command is empty"),
            Some(program) if program.is_empty() => refuse("the command's program is empty"),
            Some(_) if argv.iter().any(|arg| arg.contains('\0')) => {
                refuse("the command has a NUL character")
            }
            Some(_) => {
                let limits = Limits { timeout: TIMEOUT, output_max: OUTPUT_MAX };
                Ok(Self {
                    argv,
                    cwd: None,
                    document: Document::default(),
                    limits,
                    mode: Mode::Document,
                    workers: None,
                    name: "command".into(),
                })
            }
        }
    }

    /// Sets the folder the command runs in (default: the program's).
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// Gives it the values of these names, as one JSON object by name (default: what was piped to
    /// it, as a value named `input`; else the event's payload). Each is a need of the step.
    ///
    /// # Examples
    /// ```
    /// use railbus::{Pipeline, StepDef, steps::command::CommandStep, store};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let confirm = CommandStep::new(["cat"])?.input(["order", "payment"]);
    /// let pipeline = Pipeline::new("p").step(StepDef::of(confirm).named("confirm")).build()?;
    /// let report = pipeline.run(store! { "order" => 7, "payment" => "card", "other" => 1 }).await;
    /// let got = report.get::<railbus::Value>("confirm")?;
    /// assert_eq!(*got, railbus::json!({"order": 7, "payment": "card"}));
    /// # Ok::<(), railbus::Error>(()) }).unwrap();
    /// ```
    #[must_use]
    pub fn input(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.document = Document::of(names);
        self
    }

    /// Sets how long one run may take (default: [`TIMEOUT`]).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = timeout;
        self
    }

    /// Sets how many bytes one run may write to stdout (default: [`OUTPUT_MAX`]).
    #[must_use]
    pub fn output_max(mut self, bytes: usize) -> Self {
        self.limits.output_max = bytes;
        self
    }

    /// Sets how it is spoken to (default: [`Mode::Document`]).
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        if mode == Mode::Worker && self.workers.is_none() {
            self.workers = Some(Workers::default());
        }
        self
    }

    /// Shares `workers` with other commands: how many of all these run at once (default: as many as
    /// are asked for; of workers as many as there are cores). The wait for a free one is no part of
    /// the timeout.
    #[must_use]
    pub fn workers(mut self, workers: &Workers) -> Self {
        self.workers = Some(workers.clone());
        self
    }

    /// Sets the name that a worker is told, and that of the step (default: `command`).
    #[must_use]
    pub fn step_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    fn command(&self) -> Command {
        let program = match &self.cwd {
            // Whether a relative program starts from the old or the new folder is up to the system.
            Some(cwd) if self.argv[0].contains('/') => {
                let path = cwd.join(&self.argv[0]);
                std::path::absolute(&path).unwrap_or(path)
            }
            _ => PathBuf::from(&self.argv[0]),
        };
        let mut command = Command::new(program);
        command.args(&self.argv[1..]);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        for (key, _) in env::vars_os() {
            if key.as_bytes().starts_with(OWN_PREFIX) {
                command.env_remove(key);
            }
        }
        command
    }

    /// Runs the command for one document.
    async fn once(&self, document: Bytes, input: &Input<'_>) -> StepResult {
        let mut command = self.command();
        if let Some(event) = input.event() {
            command.env("RAILBUS_EVENT_ID", event.id());
            command.env("RAILBUS_EVENT_TYPE", event.event_type());
            command.env("RAILBUS_TOPIC", event.topic());
            command.env("RAILBUS_CORRELATION_ID", event.correlation_id());
        }
        command.env("RAILBUS_ATTEMPT", input.attempt().to_string());
        command.env("RAILBUS_TRY", input.step_try().to_string());
        let child = Child::spawn(&mut command).await.map_err(|e| self.not_started(&e))?;
        self.outcome(child.converse(document, self.limits).await)
    }

    /// Gives a worker the document.
    async fn ask(&self, document: &[u8], input: &Input<'_>, workers: &Workers) -> StepResult {
        let ask = Ask::new(&self.name, document, input);
        let ask = ask.map_err(|e| StepError::Exception(Exception::new("encode", e)))?;
        let mut command = self.command();
        command.env("RAILBUS_WORKER", "1");
        let key = format!("{:?} {:?}", self.argv, self.cwd);
        let came = workers.work(&key, &mut command, ask, self.limits).await;
        match came.map_err(|e| self.not_started(&e))? {
            Ok(came) => came,
            Err((Broke::Ended(end), stderr)) => {
                let (kind, what) = self.befallen(&end);
                Err(self.exception(kind, &what, &stderr))
            }
            Err((Broke::Garbage(what), stderr)) => Err(self.exception("output", &what, &stderr)),
        }
    }

    /// Says why the command did not start, as far as the system's answer tells.
    fn not_started(&self, error: &io::Error) -> StepError {
        let why = match (error.kind(), &self.cwd) {
            (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, Some(cwd))
                if !cwd.is_dir() =>
            {
                format!("its folder {} does not exist", cwd.display())
            }
            (io::ErrorKind::NotFound, _) => {
                "it, or the interpreter its first line names, does not exist".to_owned()
            }
            (io::ErrorKind::PermissionDenied, _) if !self.argv[0].contains('/') => {
                "it is not executable, or lies in a folder of PATH that this user may not look into"
                    .to_owned()
            }
            (io::ErrorKind::PermissionDenied, _) => "it is not executable".to_owned(),
            _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
                "it is not a program; a script needs a first line such as #!/bin/sh".to_owned()
            }
            _ => "the system refuses".to_owned(),
        };
        self.exception("spawn", &format!("could not be started: {why} ({error})"), "")
    }

    fn exception(&self, kind: &str, what: &str, stderr: &str) -> StepError {
        const SHOWN: usize = 120;
        let line = self.argv.join(" ");
        let mut shown: String = line.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        if line.chars().nth(SHOWN).is_some() {
            shown.push('…');
        }
        let mut message = format!("`{shown}` {what}");
        if !stderr.is_empty() {
            message.push_str("; its stderr ends: ");
            message.push_str(stderr);
        }
        StepError::Exception(Exception::new(kind, message))
    }

    fn outcome(&self, heard: Heard) -> StepResult {
        let stderr = heard.stderr.text();
        match &heard.end {
            End::Exit(status) if status.success() => {
                answer::read(&heard.stdout).unwrap_or_else(|why| {
                    Err(self.exception("output", &format!("wrote to stdout {why}"), &stderr))
                })
            }
            end => {
                let (kind, what) = self.befallen(end);
                Err(self.exception(kind, &what, &stderr))
            }
        }
    }

    /// Says how a process ended, other than well.
    fn befallen(&self, end: &End) -> (&'static str, String) {
        match end {
            End::Exit(status) => (ended_by(*status), format!("ended with {status}")),
            End::Timeout => ("timeout", format!("took longer than {:?}", self.limits.timeout)),
            End::TooMuch => {
                ("output", format!("wrote more than {} bytes to stdout", self.limits.output_max))
            }
            End::Broken(error) => ("spawn", format!("could not be waited for: {error}")),
        }
    }
}

#[async_trait]
impl Step for CommandStep {
    fn signature(&self) -> Signature {
        self.document.sign(Signature::new(&self.name))
    }

    async fn run(&self, input: Input<'_>) -> StepResult {
        let document = self.document.text(&input)?;
        let Some(workers) = &self.workers else { return self.once(document, &input).await };
        let _permit = workers.permit().await;
        match self.mode {
            Mode::Document => self.once(document, &input).await,
            Mode::Worker => self.ask(&document, &input, workers).await,
        }
    }
}

fn ended_by(status: ExitStatus) -> &'static str {
    if status.code().is_some() { "exit" } else { "signal" }
}
