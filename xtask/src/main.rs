//! The project's own tasks: `cargo xtask test`, `ci`, `servers`, `stress`, `certify`, `loom`, `leaks`, `bench`,
//! `counts` and `fuzz`.

mod bench;
mod cargo;
mod counts;
mod fuzz;
mod numbered;
mod orders;
mod stages;
mod threads;
mod valgrind;

use cargo::Outcome;
use std::{
    env,
    process::{Command, ExitCode},
};

const USAGE: &str = "\
Usage: cargo xtask TASK

  test [ARGS]     have the servers, build the program and run all tests; ARGS go to `cargo test`
  ci [STAGE..]    what every change must pass, stage by stage, with times:
                  fmt clippy docs features test loom examples counts apart
  servers         the servers that tests start: installed below target/ where they are nowhere
                  else, and shown with their versions
  stress [ARGS]   the stress tests and the conformance suite in full, in release, one after another,
                  with their output; ARGS go to the tests
  certify         run the conformance suite on every backend, and keep what it shows in
                  docs/certificates, of which README and `railbus backends` tell
  loom [ARGS]     what threads share, in every order of their steps; ARGS go to `cargo test`
  leaks [ARGS]    the stress test of the bus under valgrind's memcheck; ARGS go to the tests
  bench [ROW..] [ARGS]
                  how fast it is, beside floors and peers, in release: rows I1 to I9 in process,
                  S1 to S4 on sqlite; ARGS are --json, --rounds N and --turn MILLISECONDS
  counts [--bless]
                  instructions and allocations of the hot paths, held against what they were;
                  --bless makes them what is held against
  fuzz [TARGET..] [SECONDS]
                  what reads bytes from outside, for 60 seconds a target; not part of test or ci";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some((task, rest)) = args.split_first() else { return usage("no task given") };
    let done = match task.as_str() {
        "test" => test(rest),
        "ci" => match stages::named(rest) {
            Ok(stages) => stages::run(&stages),
            Err(why) => return usage(&why),
        },
        "servers" => servers(),
        "stress" => stress(rest),
        "certify" => certify(),
        "loom" => threads::loom(rest),
        "leaks" => threads::leaks(rest),
        "fuzz" => fuzz::run(rest),
        "bench" => bench::run(rest),
        "counts" => counts::run(rest),
        "help" | "-h" | "--help" => {
            println!("{USAGE}");
            Ok(())
        }
        unknown => return usage(&format!("no task `{unknown}`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {task}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("xtask: {why}\n\n{USAGE}");
    ExitCode::from(2)
}

/// Runs all tests. What they need is made ready first: servers, so that nothing is installed in the
/// middle of a test, and the program, which some of them kill and start again.
fn test(args: &[String]) -> Outcome {
    servers()?;
    cargo::program()?;
    cargo::run_with(&["test", "--workspace", "--all-features"], args)
}

/// Finds the servers, or installs them, and shows which they are.
fn servers() -> Outcome {
    let built = cargo::executables(&["build", "--package", "railbus-testbed"])?;
    let program = built.into_iter().next().ok_or("the build named no executable")?;
    let mut command = Command::new(&program);
    let status =
        command.arg("install").status().map_err(|e| format!("{}: {e}", program.display()))?;
    if status.success() { Ok(()) } else { Err("not every server is there".into()) }
}

fn stress(args: &[String]) -> Outcome {
    servers()?;
    let test = [
        "test",
        "--release",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--test",
        "*_kill",
        "--test",
        "stress_*",
        "--test",
        "conformance",
        "--test",
        "conformance_servers",
    ];
    let mut command = cargo::command(&test);
    command.args(["--", "--nocapture", "--test-threads=1"]).args(args);
    cargo::done(command.env("RAILBUS_STRESS", "1"))
}

/// Writes the certificates anew: the tests of the suite do, when they are told to.
fn certify() -> Outcome {
    let test = ["test", "-p", "railbus", "--all-features", "--test", "conformance"];
    let mut command = cargo::command(&test);
    command.args(["--test", "conformance_servers", "--test", "conformance_sqs"]);
    cargo::done(command.env("RAILBUS_CERTIFY", "1"))
}
