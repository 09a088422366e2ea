//! Steps that are commands leave no process over, however they and the program end.
#![cfg(feature = "app")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    event::Event,
    step::{Flow, Input, InputParts, Step, StepError, StepResult, Store},
    steps::command::CommandStep,
};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Well below every `sleep` of the scripts, well above what a busy machine needs.
const SOON: Duration = Duration::from_secs(30);

fn parts(event: Event, attempt: u32, step_try: u32) -> InputParts {
    InputParts::default().event(event).tries(attempt, step_try)
}

fn sh(script: &str) -> CommandStep {
    CommandStep::new(["/bin/sh", "-c", script]).unwrap()
}

async fn run(step: &CommandStep) -> StepResult {
    let (event, store) = (Event::new("order.placed").payload(1), Store::default());
    step.run(Input::of(&store, &parts(event, 1, 1))).await
}

/// A pipe in the file system: scripts hold it open, so its end tells that all of them are gone.
struct Witness {
    path: PathBuf,
    _folder: TempDir,
}

impl Witness {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("witness");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self { path, _folder: folder }
    }

    /// Waits for the first word of a script that has opened the pipe.
    async fn hear(&self) -> BufReader<fs::File> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut pipe = BufReader::new(fs::File::open(path).unwrap());
            let mut line = String::new();
            pipe.read_line(&mut line).unwrap();
            assert_eq!(line, "here\n");
            pipe
        });
        tokio::time::timeout(SOON, read).await.unwrap().unwrap()
    }

    /// Waits until no process holds the pipe.
    async fn gone(mut pipe: BufReader<fs::File>) {
        let read = tokio::task::spawn_blocking(move || pipe.read_to_end(&mut Vec::new()));
        tokio::time::timeout(SOON, read).await.expect("a process is left over").unwrap().unwrap();
    }
}

/// A script that holds the witness, with a grandchild that does so as well and ignores signals.
fn lingering(witness: &Path, then: &str) -> String {
    format!(
        "exec 9>'{}'; (trap '' TERM INT HUP; sleep 1000) & echo here >&9; {then}",
        witness.display()
    )
}

#[tokio::test]
async fn a_hang_is_a_timeout_and_leaves_nothing() {
    let witness = Witness::new();
    let script = lingering(&witness.path, "echo waiting >&2; trap '' TERM; sleep 1000");
    let step = sh(&script).timeout(Duration::from_secs(1));
    let (said, pipe) = tokio::join!(run(&step), witness.hear());
    let Err(StepError::Exception(said)) = said else { panic!("{said:?}") };
    let message = said.error.to_string();
    assert_eq!(said.kind, "timeout");
    assert!(message.contains("took longer than 1s") && message.ends_with("waiting"), "{message}");
    Witness::gone(pipe).await;
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing() {
    let witness = Witness::new();
    let step = sh(&lingering(&witness.path, "sleep 1000"));
    let pipe = tokio::select! {
        done = run(&step) => panic!("{done:?}"),
        pipe = witness.hear() => pipe,
    };
    Witness::gone(pipe).await;
}

#[tokio::test]
async fn left_over_grandchildren_neither_hang_the_step_nor_live_on() {
    let witness = Witness::new();
    // The grandchild holds stdout and stderr as well.
    let step = sh(&lingering(&witness.path, "echo 7"));
    let began = Instant::now();
    let (out, pipe) = tokio::join!(run(&step), witness.hear());
    assert_eq!(out.unwrap(), Flow::next(json!(7)));
    assert!(began.elapsed() < SOON);
    Witness::gone(pipe).await;
    // One that let go of the pipes is killed as well.
    let witness = Witness::new();
    let quiet = format!("exec 8>&1 >/dev/null 2>&1; {}", lingering(&witness.path, "echo 8 >&8"));
    let quiet = quiet.replace("sleep 1000)", "exec 8>&-; sleep 1000)");
    let (out, pipe) = tokio::join!(async { run(&sh(&quiet)).await }, witness.hear());
    assert_eq!(out.unwrap(), Flow::next(json!(8)));
    Witness::gone(pipe).await;
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hang_the_step() {
    let step = sh("setsid sleep 20 & echo 9");
    let began = Instant::now();
    assert_eq!(run(&step).await.unwrap(), Flow::next(json!(9)));
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_killed_parent_leaves_no_child() {
    let witness = Witness::new();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .env("AS_CHILD", "yes")
        .args(["--exact", "parent_to_be_killed"])
        .env("WITNESS", &witness.path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = witness.hear().await;
    parent.kill().unwrap();
    parent.wait().unwrap();
    Witness::gone(pipe).await;
}

#[tokio::test]
async fn parent_to_be_killed() {
    if std::env::var_os("AS_CHILD").is_none() {
        return; // Run by a_killed_parent_leaves_no_child.
    }
    // An earlier step that is over must not confuse the guardian.
    run(&sh("exit 0")).await.unwrap();
    let witness = PathBuf::from(std::env::var_os("WITNESS").unwrap());
    let _ = run(&sh(&lingering(&witness, "trap '' TERM; sleep 1000"))).await;
}

/// The window between a child's start and its announcement is closed where `/proc` tells of it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_parent_killed_while_starting_children_leaves_none() {
    for millis in [150, 200, 250] {
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .env("AS_CHILD", "yes")
            .args(["--exact", "parent_in_a_rush"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Any moment will do: it does nothing but start children and kill them.
        // sleep: the moment must be random to the child.
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let sign = format!("1000.{}", parent.id());
        parent.kill().unwrap();
        parent.wait().unwrap();
        let began = Instant::now();
        while is_running(&sign) {
            assert!(began.elapsed() < SOON, "a process is left over");
            // sleep: between looks at the list of processes, which tells nobody.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[cfg(target_os = "linux")]
fn is_running(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| line.split(|byte| *byte == 0).any(|arg| arg == argument.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn parent_in_a_rush() {
    if std::env::var_os("AS_CHILD").is_none() {
        return; // Run by a_parent_killed_while_starting_children_leaves_none.
    }
    let sleep = ["sleep".to_owned(), format!("1000.{}", std::process::id())];
    let step = CommandStep::new(sleep).unwrap().timeout(Duration::from_millis(1));
    loop {
        let _ = tokio::join!(run(&step), run(&step), run(&step));
    }
}
