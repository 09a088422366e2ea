//! The program as its users meet it: what each command prints, where, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod conformance;
mod conformance_servers;
mod dlq;
mod doctor;
mod files;
mod groups;
mod postgres;
mod printed;
mod publish;
mod redis;
mod runs;
mod sqs;
mod subscribe;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

/// How long anything may take before a test gives up: far longer than it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder of its own, and the program started in it.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A scene with events on these topics, each with its place as payload.
    fn with_events(topics: &[&str]) -> Self {
        let scene = Self::new();
        for (i, topic) in topics.iter().enumerate() {
            scene.ok(&["publish", "sqlite:a.db", topic, "--data", &i.to_string()]);
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_railbus"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        for name in ["RAILBUS_URL", "RUST_LOG", "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command to its end.
    fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command that must succeed and returns what it printed.
    fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran.out
    }

    /// Runs a command that must succeed and reads each line that it printed as JSON.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        documents(&self.ok(&[args, &["--json"]].concat()))
    }

    /// Runs a command that must break, with nothing on stdout, and returns what it said.
    fn broken(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, &*ran.out), (1, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("error: "), "{args:?}: {}", ran.err);
        ran.err
    }

    /// Runs a command with this on its stdin.
    fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end before it has read everything.
        let feeding = thread::spawn(move || drop(stdin.write_all(&input)));
        let ran = child.wait_with_output().unwrap().into();
        feeding.join().unwrap();
        ran
    }

    /// Starts a subscriber and waits until it listens.
    fn subscriber(&self, args: &[&str]) -> Running {
        let running = self.start(&[&["subscribe", "sqlite:a.db"], args].concat());
        running.hear("listening");
        running
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running { out: lines_of(out), err: lines_of(err), child }
    }
}

fn documents(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

/// What a command came to.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let utf8 = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (utf8(output.stdout), utf8(output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Self { code: output.status.code().unwrap(), out, err }
    }
}

/// A command under way; ended with the test if it still runs.
struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    /// Waits for the next line on stdout.
    fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits for a line on stderr that has `part` in it.
    fn hear(&self, part: &str) {
        while !self.err.recv_timeout(PATIENCE).unwrap().contains(part) {}
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; returns the code and what was not read of stdout.
    fn end(mut self) -> (i32, Vec<String>) {
        let mut rest = Vec::new();
        loop {
            match self.out.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(e) => panic!("{e}: it does not end"),
            }
        }
        let code = self.child.wait().unwrap().code().unwrap();
        (code, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (lines, read) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if lines.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    read
}
