//! What steps do that they had better not, and what is done to the program meanwhile.

use super::{
    Case,
    crossing::pid,
    ends::{kill, signal},
    error,
    left_over::{SOON, number, parent, state, until},
    run, runtime,
};
use railbus::{Status, executors::Processes, step, store};
use std::{
    collections::BTreeSet,
    env::current_exe,
    fs::{self, OpenOptions},
    hint::spin_loop,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio, exit, id},
};
use tempfile::TempDir;
use tokio::time::timeout;

pub(crate) const CASES: &[Case] = &[
    ("a program that is killed leaves no worker that spins", killed_leave_none_that_spins),
    ("a program that is killed leaves no worker that stands still", killed_leave_none_that_stands),
    ("a worker ends with its program even if nobody kills it", workers_see_the_end),
    ("what is written to stdout by number is no message", raw_writes_are_no_messages),
    ("what a worker leaves behind keeps nobody waiting", left_behind_is_killed),
    ("values may be long", long_values_cross),
    ("a program whose file was deleted goes on", deleted_programs_go_on),
    ("a worker holds no pipe of another", pipes_are_not_shared),
    ("a thousand workers leave nothing behind", thousands_leave_nothing),
];

/// Writes its number into a file, and never ends.
#[step]
pub(crate) fn spins(own: &str) {
    fs::write(format!("{own}.part"), id().to_string()).unwrap();
    fs::rename(format!("{own}.part"), own).unwrap();
    loop {
        spin_loop();
    }
}

/// Writes to stdout by its number, and has a process of its own do so.
#[step]
pub(crate) fn writes_raw() -> String {
    let mut raw = OpenOptions::new().write(true).open("/proc/self/fd/1").unwrap();
    raw.write_all(b"\0RB\x03\xff\xff\xff\x0f raw").unwrap();
    let script = "printf '\\0RB\\3garbage'; cat";
    let output = Command::new("sh").args(["-c", script]).stdout(Stdio::inherit()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Starts what holds all its pipes, and ends.
#[step]
pub(crate) fn leaves(file: &str) {
    let mut script = String::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let to = fs::read_link(entry.path()).unwrap_or_default();
        let is_pipe = to.to_str().unwrap().starts_with("pipe:");
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        if is_pipe && number > 2 {
            script += &format!("exec {number}<>/proc/{}/fd/{number}\n", id());
        }
    }
    // The shell of some systems takes no numbers above 9.
    script += &format!("printf $$ >'{file}.part'\nmv '{file}.part' '{file}'\nexec sleep 1000");
    Command::new("bash").args(["-c", &script]).spawn().unwrap();
    until("it holds them", || Path::new(file).exists());
    exit(5);
}

#[step]
pub(crate) fn lengthens(text: &str) -> String {
    format!("{text}{text}")
}

#[step]
pub(crate) fn pipes() -> Vec<String> {
    let all = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let to = fs::read_link(entry.ok()?.path()).ok()?.to_str()?.to_owned();
        to.starts_with("pipe:").then_some(to)
    });
    all.collect()
}

/// Starts this program, to run a step that never ends.
fn program(mode: &str) -> (TempDir, Child, u32) {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(current_exe().unwrap());
    program.arg(mode).current_dir(folder.path()).stdin(Stdio::null());
    let program = program.spawn().unwrap();
    let worker = number(&folder.path().join("own"));
    (folder, program, worker)
}

fn killed(mut program: Child, worker: u32) {
    kill(program.id());
    program.wait().unwrap();
    // Whoever adopted it may take its time to reap it.
    until("it is gone", || state(worker).is_none_or(|state| state == 'Z'));
}

/// As a program of its own, to be killed.
pub(crate) fn spin() {
    drop(runtime().block_on(run(spins(), Processes::new(1), store! { "own" => "own".to_owned() })));
}

fn killed_leave_none_that_spins() {
    let (_folder, program, worker) = program("spin");
    killed(program, worker);
}

fn killed_leave_none_that_stands() {
    let (_folder, program, worker) = program("hang");
    signal(worker, "STOP");
    killed(program, worker);
}

fn workers_see_the_end() {
    let (_folder, program, worker) = program("spin");
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let line = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut own = all.filter(|pid| parent(*pid) == Some(program.id()));
    let guardian = own.find(|pid| line(*pid).contains("railbus-guardian")).unwrap();
    kill(guardian);
    killed(program, worker);
}

fn raw_writes_are_no_messages() {
    runtime().block_on(async {
        for _ in 0..2 {
            let report = run(writes_raw(), Processes::new(1), store! {}).await;
            assert_eq!(*report.get::<String>("writes_raw").unwrap(), "", "{report}");
        }
    });
}

fn left_behind_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid").to_str().unwrap().to_owned();
    let report = runtime().block_on(async {
        let run = run(leaves(), Processes::new(1), store! { "file" => file.clone() });
        timeout(SOON, run).await.expect("its end is seen")
    });
    assert!(error(&report).contains("exit status: 5"), "{}", error(&report));
    let left = number(Path::new(&file));
    until("it is killed", || state(left).is_none_or(|state| state == 'Z'));
}

fn long_values_cross() {
    let text = "x".repeat(32 << 20);
    runtime().block_on(async {
        let report = run(lengthens(), Processes::new(1), store! { "text" => text.clone() }).await;
        assert_eq!(report.get::<String>("lengthens").unwrap().len(), 64 << 20);
        let report = run(pid(), Processes::new(1), store! {}).await;
        assert_eq!(report.status(), Status::Success);
    });
}

fn deleted_programs_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy(current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program).arg("deleted").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "it went on\n", "{}", String::from_utf8_lossy(&output.stderr));
}

/// As a program of its own, whose file is deleted while it runs.
pub(crate) fn deleted() {
    fs::remove_file(current_exe().unwrap()).unwrap();
    let report = runtime().block_on(run(pid(), Processes::new(1), store! {}));
    match report.status() {
        Status::Success => println!("it went on"),
        _ => println!("{}", error(&report)),
    }
}

fn pipes_are_not_shared() {
    // What whoever started this program had it inherit goes on to all.
    let inherited: BTreeSet<String> = files().filter(|(_, closes)| !closes).map(|f| f.0).collect();
    runtime().block_on(async {
        let of = async |pool: Processes| -> BTreeSet<String> {
            let report = run(pipes(), pool, store! {}).await;
            let all = report.get::<Vec<String>>("pipes").unwrap().to_vec();
            all.into_iter().filter(|pipe| !inherited.contains(pipe)).collect()
        };
        let (first, second) = (of(Processes::new(1)).await, of(Processes::new(3)).await);
        assert!(first.is_disjoint(&second), "{first:?} {second:?}");
        assert_eq!((first.len(), second.len()), (3, 3), "{first:?} {second:?}");
    });
}

/// The files that this program has open, each with whether what it starts is without it.
fn files() -> impl Iterator<Item = (String, bool)> {
    fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let to = fs::read_link(entry.path()).ok()?.to_str()?.to_owned();
        let about = format!("/proc/self/fdinfo/{}", entry.file_name().to_str()?);
        let about = fs::read_to_string(about).ok()?;
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        Some((to, flags & 0o2_000_000 != 0))
    })
}

fn thousands_leave_nothing() {
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let pool = Processes::new(1).max_tasks_per_child(1);
    let next = || runtime().block_on(run(pid(), pool.clone(), store! {}));
    assert_eq!(next().status(), Status::Success);
    let (files, threads) = (count("fd"), count("task"));
    let mut pids = BTreeSet::new();
    for _ in 0..1000 {
        pids.insert(*next().get::<u32>("pid").unwrap());
    }
    assert_eq!(pids.len(), 1000);
    // Those that end are still let end.
    until("all are reaped", || count("task") <= threads && count("fd") <= files);
}
