//! A kept run and several processes, on each backend that keeps runs: one that is stopped past its
//! lease and goes on when another has taken its run over, one that dies while two wait for its run, and
//! one whose end someone else asks for while its step is in a worker.
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

/// Where the processes meet, and where their runs are kept.
const PLACE: &str = "DURABLE_PROCESSES_PLACE";
const URL: &str = "DURABLE_PROCESSES_URL";
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

/// Takes until it is let through: who comes first by one file, all others by another.
#[step]
async fn second() -> u32 {
    says("second");
    let place = env::var(PLACE).unwrap();
    let place = Path::new(&place);
    let let_through = if lines(place, "second").len() == 1 { "go" } else { "end" };
    while !place.join(let_through).exists() {
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

async fn open(url: &str) -> (Bus, Arc<dyn Journal>) {
    let bus = Bus::open(url).await.unwrap();
    let journal = bus.journal().unwrap();
    (bus, journal)
}

/// Runs one run as a process of its own; its report is left for the test to read.
async fn run(place: &Path, which: &str) {
    let (bus, _) = open(&env::var(URL).unwrap()).await;
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
    fn start(scene: &Scene, which: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(which).env(PLACE, scene.folder.path()).env(URL, &scene.url);
        command.stdin(Stdio::null()).stdout(Stdio::null());
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

/// A folder in which processes meet, and a store for their runs.
struct Scene {
    folder: tempfile::TempDir,
    url: String,
}

impl Scene {
    /// Makes one whose store has that URL; in a file of its own, if it has none.
    fn on(url: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = || format!("sqlite:{}", folder.path().join("runs.db").display());
        Self { url: url.unwrap_or_else(file), folder }
    }

    fn place(&self) -> &Path {
        self.folder.path()
    }
}

async fn a_holder_that_was_stopped_past_its_lease_ends_as_stale_when_it_goes_on(scene: Scene) {
    let place = scene.place();
    let mut runner = Runner::start(&scene, "line");
    until("the second step does not begin", || !lines(place, "second").is_empty());
    runner.signal(Signal::STOP);
    let mut taker = Runner::start(&scene, "take");
    until("nobody takes it over", || lines(place, "second").len() == 2);
    fs::write(place.join("go"), "").unwrap();
    runner.signal(Signal::CONT);
    // The other is in the middle of the step, so nothing but its lease is in the way.
    let came = runner.end(place);
    assert!(came.starts_with("exception stale:true"), "{came}");
    assert!(came.contains("has taken it over"), "{came}");
    let (bus, journal) = open(&scene.url).await;
    assert_eq!(journal.load("run").await.unwrap().unwrap().records.len(), 1);
    fs::write(place.join("end"), "").unwrap();
    let came = taker.end(place);
    assert!(came.starts_with("success stale:false None"), "{came}");
    // The second step ran in both, since it was not recorded; nothing after it ran in the first.
    assert_eq!(lines(place, "first").len(), 1);
    let owner = taker.0.id();
    assert_eq!(lines(place, "second").len(), 2);
    assert_eq!(lines(place, "third"), [format!("third {owner}")]);
    let after = journal.load("run").await.unwrap().unwrap();
    let second = after.records[1].record.values.get::<u32>("second").unwrap();
    assert_eq!(*second, owner);
    assert!(after.run.owner.starts_with(&format!("process {owner}")), "{}", after.run.owner);
    assert_eq!((after.records.len(), after.run.resumed), (3, 1));
    assert_eq!(after.run.state.name(), "success");
    bus.close().await.unwrap();
}

async fn the_end_of_a_run_can_be_asked_for_elsewhere_while_its_step_is_in_a_worker(scene: Scene) {
    let place = scene.place();
    let mut runner = Runner::start(&scene, "endless");
    until("the worker does not begin", || !lines(place, "works").is_empty());
    let (bus, journal) = open(&scene.url).await;
    assert_eq!(journal.cancel("run").await.unwrap(), RunState::Running);
    let came = runner.end(place);
    assert!(came.starts_with("cancelled stale:false Some((Some(\"works\"), Asked))"), "{came}");
    assert_eq!(journal.find("run").await.unwrap().unwrap().run.state.name(), "cancelled");
    assert!(lines(place, "after").is_empty());
    let worker: i32 = lines(place, "works")[0].split(' ').nth(1).unwrap().parse().unwrap();
    until("the worker lives on", || !Path::new(&format!("/proc/{worker}")).exists());
    bus.close().await.unwrap();
}

/// Two processes that begin one run at the same time: one of them runs it.
async fn of_two_processes_that_begin_a_run_one_runs_it(scene: Scene) {
    let place = scene.place();
    fs::write(place.join("go"), "").unwrap();
    let mut both = [Runner::start(&scene, "line"), Runner::start(&scene, "line")];
    for runner in &mut both {
        assert!(runner.0.wait().unwrap().success());
    }
    for name in ["first", "second", "third"] {
        assert_eq!(lines(place, name).len(), 1, "{name}");
    }
    let (bus, journal) = open(&scene.url).await;
    let run = journal.find("run").await.unwrap().unwrap().run;
    assert_eq!((run.state.name(), run.resumed, run.records), ("success", 0, 3));
    bus.close().await.unwrap();
}

/// A process that is killed in the middle of a step, and two others that wait for its run.
async fn of_two_that_wait_for_the_run_of_a_dead_process_one_takes_it_over_once(scene: Scene) {
    let place = scene.place();
    let mut dead = Runner::start(&scene, "line");
    until("the second step does not begin", || !lines(place, "second").is_empty());
    fs::write(place.join("end"), "").unwrap();
    let (bus, journal) = open(&scene.url).await;
    let mut takers = [Runner::start(&scene, "take"), Runner::start(&scene, "take")];
    dead.0.kill().unwrap();
    dead.0.wait().unwrap();
    for taker in &mut takers {
        let came = taker.end(place);
        assert!(came.starts_with("success stale:false None"), "{came}");
    }
    let counts = ["first", "second", "third"].map(|name| lines(place, name).len());
    assert_eq!(counts, [1, 2, 1], "what was recorded does not run again, and what was not, once");
    let run = journal.load("run").await.unwrap().unwrap();
    assert_eq!((run.run.state.name(), run.run.resumed, run.records.len()), ("success", 1, 3));
    let taker = lines(place, "third")[0].replace("third", "process");
    assert!(run.run.owner.starts_with(&taker), "{} is not {taker}", run.run.owner);
    bus.close().await.unwrap();
}

/// Plays all with stores that `url` gives, one for each.
async fn play(mut url: impl FnMut() -> Option<String>) {
    for _ in 0..3 {
        of_two_processes_that_begin_a_run_one_runs_it(Scene::on(url())).await;
    }
    of_two_that_wait_for_the_run_of_a_dead_process_one_takes_it_over_once(Scene::on(url())).await;
    a_holder_that_was_stopped_past_its_lease_ends_as_stale_when_it_goes_on(Scene::on(url())).await;
    the_end_of_a_run_can_be_asked_for_elsewhere_while_its_step_is_in_a_worker(Scene::on(url()))
        .await;
}

fn main() {
    worker::init(Steps::new().add(works));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let which = env::args().nth(1).unwrap_or_default();
    if let (Some(place), "line" | "take" | "endless") = (env::var_os(PLACE), &*which) {
        return runtime.block_on(run(Path::new(&place), &which));
    }
    if cfg!(target_os = "linux") {
        runtime.block_on(play(|| None));
        #[cfg(feature = "postgres")]
        {
            let server = railbus_testbed::Postgres::start().unwrap();
            let url = || Some(server.database().unwrap().url("postgres-queue"));
            runtime.block_on(play(url));
        }
        println!("4 tests of a run and several processes passed on each backend that keeps runs");
    }
}
