//! No worker is left over: of a task that is given up, of a program that is killed.

use super::{Case, crossing::pid, ends::kill, run, runtime};
use railbus::{Status, executors::Processes, step, store};
use std::{
    env::current_exe,
    fs,
    path::Path,
    process::{Command, Stdio, id},
    thread::sleep,
    time::{Duration, Instant},
};

pub(crate) const CASES: &[Case] = &[
    ("a task that is given up ends its worker", given_up_tasks_end),
    ("a program that is killed leaves no worker", killed_programs_leave_nothing),
    ("no zombie is left", no_zombie_is_left),
];

/// Well above what a busy machine needs.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Writes its number into a file, and waits for another file.
#[step]
pub(crate) fn hangs(own: &str, other: &str) -> u32 {
    let whole = format!("{own}.part");
    fs::write(&whole, id().to_string()).unwrap();
    fs::rename(whole, own).unwrap();
    while !Path::new(other).exists() {
        // sleep: a file does not tell that it is there.
        sleep(Duration::from_millis(1));
    }
    id()
}

pub(crate) fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < SOON, "not soon: {what}");
        // sleep: other processes don't tell what becomes of them.
        sleep(Duration::from_millis(1));
    }
}

/// Returns the state of a process, a letter; none if there is none.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Returns the process that started a process, or has adopted it.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

pub(crate) fn number(file: &Path) -> u32 {
    until("a worker begins", || file.exists());
    fs::read_to_string(file).unwrap().parse().unwrap()
}

fn given_up_tasks_end() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own");
        let never = folder.path().join("never");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let store = store! { "own" => text(&file), "other" => text(&never) };
        let begun = async {
            while !file.exists() {
                // sleep: a file does not tell that it is there.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            report = run(hangs(), Processes::new(1), store) => panic!("{report}"),
            () = begun => {}
        }
        let worker = number(&file);
        until("it is gone", || state(worker).is_none());
        let report = run(pid(), Processes::new(1), store! {}).await;
        assert_eq!(report.status(), Status::Success);
    });
}

fn killed_programs_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut program = Command::new(current_exe().unwrap());
    program.arg("hang").current_dir(folder.path()).stdin(Stdio::null());
    let mut program = program.spawn().unwrap();
    let worker = number(&folder.path().join("own"));
    assert!(state(worker).is_some_and(|state| state != 'Z'));
    kill(program.id());
    program.wait().unwrap();
    // Whoever adopted it may take its time to reap it.
    until("it is gone", || state(worker).is_none_or(|state| state == 'Z'));
}

/// As a program of its own, to be killed.
pub(crate) fn hang() {
    let store = store! { "own" => "own".to_owned(), "other" => "never".to_owned() };
    drop(runtime().block_on(run(hangs(), Processes::new(1), store)));
}

fn no_zombie_is_left() {
    let zombies = || {
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            let (_, rest) = stat.rsplit_once(") ")?;
            let mut fields = rest.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?);
            (state == "Z" && parent == id().to_string()).then_some(())
        });
        all.count()
    };
    until("all are reaped", || zombies() == 0);
}
