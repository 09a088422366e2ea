//! A folder with an app, and the program run in it.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// How long anything may take that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// An app that hands every event of `in.ndjson` to the step `./step.sh`.
pub(crate) const APP: &str = r#"
bus.url = "sqlite:events.db"
[[input]]
kind = "ndjson"
path = "in.ndjson"
[steps.step]
command = ["./step.sh"]
[pipelines.all]
flow = "step"
[[on]]
type = "*"
group = "g"
pipeline = "all"
retry = { max_attempts = 1 }
"#;

pub(crate) struct Scene(tempfile::TempDir);

impl Scene {
    /// Makes a folder with the app, its lines and its step; `$1` of a step's text is nothing.
    pub(crate) fn new(app: &str, lines: impl AsRef<[u8]>, step: &str) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        scene.write("app.toml", app);
        scene.write("in.ndjson", lines);
        scene.script("step.sh", step);
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn script(&self, name: &str, text: &str) {
        self.write(name, format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
        command.arg("run").arg(self.path("app.toml")).arg("--json").args(args);
        command.env_remove("RAILBUS_URL").env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the app until it is idle.
    pub(crate) fn run(&self) -> Ended {
        Ended::of(&self.command(&["--until-idle"]).output().unwrap())
    }

    /// Starts the app without an end; what it says on stderr goes to the file `said`.
    pub(crate) fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// Starts the app as [`Scene::run`] does, and waits for nothing.
    pub(crate) fn start_until_idle(&self) -> Running {
        self.start_with(&["--until-idle"])
    }

    fn start_with(&self, args: &[&str]) -> Running {
        let said = fs::File::create(self.path("said")).unwrap();
        Running(Some(self.command(args).stderr(said).spawn().unwrap()))
    }
}

/// Shows that an event which was tried twice, died, was handed back between two runs and then went well is
/// one that the second run did not retry.
pub(crate) fn tries_before_a_redrive_are_not_counted(url: &str) {
    let app = APP.replace("sqlite:events.db", url);
    let app = app.replace("max_attempts = 1", "max_attempts = 2, backoff_factor = 0.01");
    let scene = Scene::new(&app, "{\"type\":\"a\"}\n", "[ -e ok ]");
    scene.run().expect(3, &[("published", 1), ("retried", 1), ("dead_lettered", 1)]);
    scene.write("ok", "");
    let mut redrive = Command::new(env!("CARGO_BIN_EXE_railbus"));
    let redriven =
        redrive.args(["dlq", "redrive", url]).current_dir(scene.0.path()).output().unwrap();
    assert!(redriven.status.success(), "{redriven:?}");
    scene.run().expect(0, &[("carried", 1), ("succeeded", 1), ("retried", 0)]);
}

/// Waits until it is so; a process's progress shows in files only.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SOON, "never: {what}");
        std::thread::yield_now();
    }
}

/// A program that does not outlive the test.
pub(crate) struct Running(pub(crate) Option<Child>);

impl Running {
    pub(crate) fn signal(&mut self, signal: rustix::process::Signal) {
        let child = self.0.as_mut().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    pub(crate) fn end(mut self) -> Ended {
        Ended::of(&self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) summary: Value,
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn of(out: &Output) -> Self {
        let summary = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        Self { code: out.status.code(), summary, said }
    }

    pub(crate) fn count(&self, key: &str) -> u64 {
        self.summary[key].as_u64().unwrap_or_else(|| panic!("no {key}: {self:?}"))
    }

    /// Checks the counts given, and that what came in went out.
    pub(crate) fn expect(&self, code: i32, counts: &[(&str, u64)]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for (key, wanted) in counts {
            assert_eq!(self.count(key), *wanted, "{key}: {self:?}");
        }
        let sum = |keys: &[&str]| keys.iter().map(|key| self.count(key)).sum::<u64>();
        let out = sum(&["succeeded", "failed", "dead_lettered", "unmatched"]);
        assert_eq!(sum(&["published", "carried"]), out, "{self:?}");
    }
}
