//! A kept run and several processes: one that is stopped past its lease and goes on when another has
//! taken its run over, and one whose end someone else asks for while its step is in a worker.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Pipeline, StepError, Steps,
    backend::{Journal, RunState},
    executors::Processes,
    step, store, worker,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Where the processes meet.
const PLACE: &str = "DURABLE_PROCESSES_PLACE";
const LEASE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(60);

fn says(name: &str) {
    let path = Path::new(&env::var(PLACE).unwrap()).join("ran");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{name} {}\n", std::process::id()).as_bytes()).unwrap();
}

fn lines(place: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(place.join("ran")).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < SOON, "{what}");
        // sleep: other processes work; nothing tells how far they are.
        thread::sleep(Duration::from_millis(1));
    }
}

#[step]
fn first() -> u32 {
    says("first");
    std::process::id()
}

/// Takes until it is let through, where it runs first.
#[step]
async fn second() -> u32 {
    says("second");
    let place = env::var(PLACE).unwrap();
    while lines(Path::new(&place), "second").len() == 1 && !Path::new(&place).join("go").exists() {
        // sleep: another process lets it through.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    std::process::id()
}

#[step]
fn third(second: u32) -> u32 {
    says("third");
    second
}

#[step(executor = Processes::new(1))]
fn works() {
    says("works");
    loop {
        // sleep: work that never ends, for whoever kills it.
        thread::sleep(Duration::from_secs(1));
    }
}

#[step]
fn after() {
    says("after");
}

fn line() -> Pipeline {
    Pipeline::new("line").step(first).step(second).step(third).build().unwrap()
}

fn endless() -> Pipeline {
    Pipeline::new("endless").step(works).step(after).build().unwrap()
}

async fn open(place: &Path) -> (Bus, Arc<dyn Journal>) {
    let bus = Bus::open(format!("sqlite:{}", place.join("runs.db").display())).await.unwrap();
    let journal = bus.journal().unwrap();
    (bus, journal)
}

/// Runs one run as a process of its own; its report is left for the test to read.
async fn run(place: &Path, which: &str) {
    let (bus, _) = open(place).await;
    let pipeline = if which == "endless" { endless() } else { line() };
    let run = pipeline.run(store! {}).journal(&bus, "run").unwrap().lease(LEASE);
    let report = if which == "take" { run.when_free().await } else { run.await };
    let kind = match report.error() {
        Some(StepError::Exception(exception)) => {
            exception.error.downcast_ref::<railbus::Error>().map(railbus::Error::kind)
        }
        _ => None,
    };
    let stale = kind == Some(ErrorKind::Stale);
    let came = format!("{} stale:{stale} {:?}\n{report}", report.status(), report.cancelled());
    fs::write(place.join(format!("came-{}", std::process::id())), came).unwrap();
    bus.close().await.unwrap();
}

/// A process that does not outlive the test.
struct Runner(Child);

impl Runner {
    fn start(place: &Path, which: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(which).env(PLACE, place).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn end(&mut self, place: &Path) -> String {
        assert!(self.0.wait().unwrap().success());
        fs::read_to_string(place.join(format!("came-{}", self.0.id()))).unwrap()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn a_holder_that_was_stopped_past_its_lease_ends_as_stale_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let mut runner = Runner::start(place, "line");
    until("the second step does not begin", || !lines(place, "second").is_empty());
    runner.signal(Signal::STOP);
    let mut taker = Runner::start(place, "take");
    let came = taker.end(place);
    assert!(came.starts_with("success stale:false None"), "{came}");
    let (bus, journal) = open(place).await;
    let before = journal.load("run").await.unwrap().unwrap().records;
    fs::write(place.join("go"), "").unwrap();
    runner.signal(Signal::CONT);
    let came = runner.end(place);
    assert!(came.starts_with("exception stale:true"), "{came}");
    assert!(came.contains("the run has ended") || came.contains("has taken it over"), "{came}");
    // The second step ran in both, since it was not recorded; nothing after it ran in the first.
    assert_eq!(lines(place, "first").len(), 1);
    let owner = taker.0.id();
    assert_eq!(lines(place, "second").len(), 2);
    assert_eq!(lines(place, "third"), [format!("third {owner}")]);
    let after = journal.load("run").await.unwrap().unwrap();
    let second = after.records[1].record.values.get::<u32>("second").unwrap();
    assert_eq!((*second, after.run.owner.as_str()), (owner, &*format!("process {owner}")));
    assert_eq!((after.records, after.run.resumed), (before, 1));
    assert_eq!(after.run.state.name(), "success");
    bus.close().await.unwrap();
}

async fn the_end_of_a_run_can_be_asked_for_elsewhere_while_its_step_is_in_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let mut runner = Runner::start(place, "endless");
    until("the worker does not begin", || !lines(place, "works").is_empty());
    let (bus, journal) = open(place).await;
    assert_eq!(journal.cancel("run").await.unwrap(), RunState::Running);
    let came = runner.end(place);
    assert!(came.starts_with("cancelled stale:false Some((Some(\"works\"), Asked))"), "{came}");
    assert_eq!(journal.find("run").await.unwrap().unwrap().run.state.name(), "cancelled");
    assert!(lines(place, "after").is_empty());
    let worker: i32 = lines(place, "works")[0].split(' ').nth(1).unwrap().parse().unwrap();
    until("the worker lives on", || !Path::new(&format!("/proc/{worker}")).exists());
    bus.close().await.unwrap();
}

/// Two processes that begin one run at the same time, again and again: one of them runs it.
async fn of_two_processes_that_begin_a_run_one_runs_it() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        fs::write(place.join("go"), "").unwrap();
        let mut both = [Runner::start(place, "line"), Runner::start(place, "line")];
        for runner in &mut both {
            assert!(runner.0.wait().unwrap().success());
        }
        for name in ["first", "second", "third"] {
            assert_eq!(lines(place, name).len(), 1, "{name}");
        }
        let (bus, journal) = open(place).await;
        let run = journal.find("run").await.unwrap().unwrap().run;
        assert_eq!((run.state.name(), run.resumed, run.records), ("success", 0, 3));
        bus.close().await.unwrap();
    }
}

fn main() {
    worker::init(Steps::new().add(works));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let which = env::args().nth(1).unwrap_or_default();
    if let (Some(place), "line" | "take" | "endless") = (env::var_os(PLACE), &*which) {
        return runtime.block_on(run(Path::new(&place), &which));
    }
    if cfg!(target_os = "linux") {
        runtime.block_on(async {
            of_two_processes_that_begin_a_run_one_runs_it().await;
            a_holder_that_was_stopped_past_its_lease_ends_as_stale_when_it_goes_on().await;
            the_end_of_a_run_can_be_asked_for_elsewhere_while_its_step_is_in_a_worker().await;
        });
        println!("3 tests of a run and several processes passed");
    }
}
