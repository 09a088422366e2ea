//! What is refused: when a pipeline is built, or when a worker says hello.

use super::{Case, crossing::pid, ends::kill, error, run, runtime};
use railbus::{
    ErrorKind, Pipeline, State, StepDef,
    executors::Processes,
    step,
    step::{Input, Opaque},
    store,
};
use std::{
    env::current_exe,
    fs,
    process::{Command, Output},
};

pub(crate) const CASES: &[Case] = &[
    ("what can't cross is refused when a pipeline is built", builds_are_refused),
    ("a program that prints before its workers can speak is told so", printing_first_is_told),
    ("a program of another version is refused", other_versions_are_refused),
];

#[step]
pub(crate) fn twice(n: i64) -> i64 {
    2 * n
}

#[step]
pub(crate) fn opaque(reply: &Opaque<fn()>) {
    (reply.0)();
}

#[step]
pub(crate) fn whole(input: Input<'_>) -> usize {
    input.store().len()
}

#[step]
pub(crate) fn stateful(seat: State<u8>) -> u8 {
    *seat
}

#[step]
fn stranger() {}

fn refuse(step: StepDef, pool: Processes, kind: ErrorKind, why: &str, hint: &str) {
    let step = step.executor(pool);
    let error = Pipeline::new("p").state(7u8).step(step).build().expect_err(why);
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    assert!(error.advice().unwrap_or_default().contains(hint), "{:?}", error.advice());
}

fn builds_are_refused() {
    use ErrorKind::{Config, Unsupported};
    let pool = || Processes::new(1);
    let init = "railbus::worker::init(Steps::new().add(..)) first in main";
    refuse(stranger(), pool(), Config, "worker processes don't know step `stranger`", init);
    refuse(stranger().named("twise"), pool(), Config, "`twise`", "did you mean `twice`?");
    let other = StepDef::value("twice", |_| 1);
    refuse(other, pool(), Config, "workers know as `twice` takes or leaves other values", "same");
    refuse(opaque(), pool(), Unsupported, "can't be serialised", "threads");
    refuse(whole(), pool(), Unsupported, "it takes `Input`", "as arguments");
    refuse(stateful(), pool(), Config, "workers were not given it", ".state(value)");
    refuse(twice(), Processes::new(0), Config, "a pool of no workers", "1 or more");
    refuse(twice(), pool().max_tasks_per_child(0), Config, "a worker without a task", "1 or more");
    // One that has another name in a pipeline goes by its own.
    runtime().block_on(async {
        let report = run(twice().named("again"), pool(), store! { "n" => 4i64 }).await;
        assert_eq!(*report.get::<i64>("again").unwrap(), 8);
    });
}

fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{text}{}", String::from_utf8_lossy(&stderr));
    text
}

fn printing_first_is_told() {
    let text = output(Command::new(current_exe().unwrap()).arg("prints").env("PRINTS_FIRST", "1"));
    assert!(text.contains("worker: ") && text.contains("it wrote `Welcome!"), "{text}");
}

/// As a program of its own.
pub(crate) fn prints() {
    println!("{}", error(&runtime().block_on(run(pid(), Processes::new(1), store! {}))));
}

fn other_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy(current_exe().unwrap(), &program).unwrap();
    let text = output(Command::new(&program).arg("replaced"));
    assert!(text.contains("the program file is of another version"), "{text}");
}

/// As a program of its own, whose file is replaced while it runs.
pub(crate) fn replaced() {
    let own = current_exe().unwrap();
    let first = runtime().block_on(run(pid(), Processes::new(1), store! {}));
    kill(*first.get::<u32>("pid").unwrap());
    let mut newer = fs::read(&own).unwrap();
    newer.push(0);
    let next = own.with_extension("next");
    fs::write(&next, newer).unwrap();
    fs::set_permissions(&next, fs::metadata(&own).unwrap().permissions()).unwrap();
    fs::rename(&next, &own).unwrap();
    let pool = Processes::new(1).max_tasks_per_child(9);
    println!("{}", error(&runtime().block_on(run(pid(), pool, store! {}))));
}
