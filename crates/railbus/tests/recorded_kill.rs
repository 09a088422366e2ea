//! A run of 12 kinds of steps whose process is killed with SIGKILL after every line it writes and at
//! random moments: it goes on at the first step that is not recorded, and ends as if undisturbed.
//! `RAILBUS_STRESS=1` makes it 300 kills, `RAILBUS_SEED` repeats a run.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Flow, Pipeline, Retry, RunReport, Status, StepDef, Steps,
    backend::RecordStatus,
    chain, each,
    executors::{Processes, Threads},
    parallel, step, store, worker,
};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Short, so that what a kill left is soon taken over.
const LEASE: Duration = Duration::from_millis(200);

/// How often `flaky` runs until it succeeds.
const TRIES: usize = 2;

/// Lines or records of each step.
type Counts = BTreeMap<String, usize>;

fn ran(name: &str) {
    let path = Path::new(&env::var_os("DURABLE_PLACE").unwrap()).join("ran");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{name}\n").as_bytes()).unwrap();
}

#[step(executor = Processes::new(1))]
fn load(seed: i64) -> i64 {
    ran("load");
    seed * 2
}

#[step(executor = Processes::new(1))]
fn refine(load: i64) -> i64 {
    ran("refine");
    load + 1
}

#[step(executor = Threads::new(1))]
fn weigh(refine: i64) -> i64 {
    ran("weigh");
    refine * 10
}

#[step(goto = ["count"])]
fn again(count: i64) -> Flow {
    ran("again");
    match count {
        0..3 => Flow::goto("count", count).into(),
        _ => Flow::next(count),
    }
}

#[step]
fn count(count: i64) -> i64 {
    ran("count");
    count + 1
}

fn says(name: &'static str) -> StepDef {
    StepDef::value(name, move |_| {
        ran(name);
        name.to_owned()
    })
}

fn pipeline() -> Pipeline {
    let flaky = StepDef::fallible("flaky", |input| {
        ran("flaky");
        match input.step_try() {
            1 => Err("not yet".into()),
            n => Ok(Flow::next(n)),
        }
    });
    let flaky = flaky.retry(Retry::attempts(2).backoff_factor(Duration::from_millis(1)));
    let sort = StepDef::fallible("sort", |_| {
        ran("sort");
        Ok(Flow::branch("gold", 1))
    });
    let asks = StepDef::fallible("asks", |_| {
        ran("asks");
        Err(railbus::Failure::new("no").value(7).into())
    });
    let item = StepDef::fallible("item-step", |input| {
        ran("item-step");
        Ok(Flow::next(*input.get::<i64>("item")? * 3))
    });
    Pipeline::new("twelve")
        .step(load)
        .step(asks)
        .on_success(says("not-taken"))
        .on_failure(says("taken"))
        .step(parallel((chain((refine, weigh)), says("beside"))))
        .step(sort)
        .on_label("gold", says("gold"))
        .on_label("tin", says("tin"))
        .step(flaky)
        .step(each("items", item.needs::<i64>("item")))
        .step(count)
        .step(again)
        .step(says("end"))
        .build()
        .unwrap()
}

/// Brings the run to its end, and writes down what it came to.
async fn run(place: &Path) {
    let bus = Bus::open(format!("sqlite:{}", place.join("runs.db").display())).await.unwrap();
    let pipeline = pipeline();
    let report = loop {
        let input = store! { "seed" => 21_i64, "count" => 0_i64, "items" => [1_i64, 2, 3] };
        let report = pipeline.run(input).journal(&bus, "run").unwrap().lease(LEASE).await;
        match report.error() {
            Some(error) if error.kind() == "journal" => {
                assert!(error.line().contains("someone else runs it"), "{}", error.line());
                // sleep: the lease of a process that was killed ends by time alone.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            _ => break report,
        }
    };
    fs::write(place.join("part"), came(&report)).unwrap();
    fs::rename(place.join("part"), place.join("came")).unwrap();
    bus.close().await.unwrap();
}

fn came(report: &RunReport) -> String {
    assert_eq!(report.status(), Status::Success, "{report}");
    let path = report.path().collect::<Vec<_>>();
    format!("{}\n{path:?}\n{}", report.status(), report.store().to_json().unwrap())
}

/// A process that runs the run, and does not outlive the test.
struct Runner(Child);

impl Runner {
    fn start(place: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env("DURABLE_PLACE", place).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn end(&mut self) {
        assert!(self.0.wait().unwrap().success(), "the run did not end");
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lines(place: &Path) -> Counts {
    let text = fs::read_to_string(place.join("ran")).unwrap_or_default();
    let mut counts = Counts::new();
    text.lines().for_each(|line| *counts.entry(line.into()).or_default() += 1);
    counts
}

fn all(counts: &Counts) -> usize {
    counts.values().sum()
}

/// Returns how many lines what is recorded stands for.
fn recorded(place: &Path, names: &Counts) -> Counts {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = runtime.block_on(async {
        let bus = Bus::open(format!("sqlite:{}", place.join("runs.db").display())).await.unwrap();
        let run = bus.journal().unwrap().load("run").await.unwrap();
        bus.close().await.unwrap();
        run
    });
    let mut counts = Counts::new();
    for one in run.into_iter().flat_map(|run| run.records) {
        let name = one.record.path.rsplit('/').next().unwrap().to_owned();
        if one.record.status != RecordStatus::Decision && names.contains_key(&name) {
            *counts.entry(name).or_default() += one.record.tries as usize;
        }
    }
    counts
}

fn of(counts: &Counts, name: &str) -> usize {
    counts.get(name).copied().unwrap_or(0)
}

/// Tells whether a process still works at this place, be it a worker.
fn is_at_work(place: &Path) -> bool {
    let entry = format!("DURABLE_PLACE={}", place.display());
    let processes = fs::read_dir("/proc").unwrap().filter_map(|one| one.ok());
    let mut all = processes.filter_map(|one| fs::read(one.path().join("environ")).ok());
    all.any(|text| text.split(|byte| *byte == 0).any(|one| one == entry.as_bytes()))
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        // sleep: another process works; its progress tells nobody.
        thread::sleep(Duration::from_micros(200));
    }
}

/// A small random generator, so that a seed repeats a run's kills.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Kills a run once, `after` that many lines and a moment, and lets another process end it.
fn kill(whole: &(String, Counts), after: usize, moment: Duration) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let mut runner = Runner::start(place);
    wait_until("the run does not go on", || all(&lines(place)) >= after);
    // sleep: the kill comes before, while or after the step is recorded.
    thread::sleep(moment);
    runner.kill();
    wait_until("a worker outlived its program", || !is_at_work(place));
    let (before, kept) = (lines(place), recorded(place, &whole.1));
    Runner::start(place).end();
    let now = lines(place);
    for (name, full) in &whole.1 {
        let tries = if name == "flaky" { TRIES } else { 1 };
        // Items run at once, as many as there are.
        let at_once = if name == "item-step" { 3 } else { tries };
        let lost = of(&before, name).checked_sub(of(&kept, name)).expect("recorded unseen");
        assert!(lost <= at_once, "{name}: {lost} lines are not recorded: {before:?} {kept:?}");
        let rerun = of(&now, name) - of(&before, name);
        assert_eq!(rerun, full - of(&kept, name), "{name} after line {after}: {kept:?}");
    }
    assert_eq!(fs::read_to_string(place.join("came")).unwrap(), whole.0, "after line {after}");
}

fn check() {
    let kills: usize = if env::var_os("RAILBUS_STRESS").is_some() { 300 } else { 30 };
    let given = env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1);
    let folder = tempfile::tempdir().unwrap();
    Runner::start(folder.path()).end();
    let whole = (fs::read_to_string(folder.path().join("came")).unwrap(), lines(folder.path()));
    let points = all(&whole.1);
    eprintln!("seed {seed}, {kills} kills, {points} points");
    let mut random = Random(seed);
    for n in 0..kills {
        let (after, moment) = match n < points {
            true => (n + 1, 0),
            false => (random.below(points as u64) as usize, random.below(20_000)),
        };
        kill(&whole, after, Duration::from_micros(moment));
    }
    eprintln!("{kills} kills: every run went on and ended as the undisturbed one");
}

fn main() {
    worker::init(Steps::new().add(load).add(refine));
    match env::var_os("DURABLE_PLACE") {
        Some(place) => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(run(Path::new(&place)));
        }
        None if cfg!(target_os = "linux") => check(),
        None => {}
    }
}
