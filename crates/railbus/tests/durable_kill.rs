//! A run that is kept, killed with SIGKILL at every point and at random moments: it goes on where it
//! was, runs nothing again that is recorded, and comes to the store of a run that nobody disturbed.
//! `RAILBUS_STRESS=1` makes it 300 kills, `RAILBUS_SEED` repeats the random ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Failure, Flow, Pipeline, Retry, Steps,
    error::BoxError,
    executors::{Processes, Threads},
    step, store, worker,
};
use std::{
    collections::BTreeMap,
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Where the run that is killed works, for its steps, also those in its workers.
const PLACE: &str = "DURABLE_KILL_PLACE";
/// Short, so that what a kill left is soon taken over.
const LEASE: Duration = Duration::from_millis(150);
const SOON: Duration = Duration::from_secs(60);

/// Says that a step runs, and takes a moment, in which it may be killed.
fn runs(name: &str) {
    let path = Path::new(&env::var(PLACE).unwrap()).join("ran");
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{name}\n").as_bytes()).unwrap();
    // sleep: work that takes its time, so that the kill may come in the middle of it.
    sleep(Duration::from_millis(2));
}

#[step]
fn start(order: i64) -> i64 {
    runs("start");
    order * 10
}

#[step]
fn classify(start: i64) -> Flow {
    runs("classify");
    Flow::branch("large", start)
}

#[step]
fn review(start: i64) -> Result<i64, Failure> {
    runs("review");
    Err(Failure::new("too large").value(start))
}

#[step]
fn refuse(found: i64) -> i64 {
    runs("refuse");
    found + 1
}

#[step]
async fn price(start: i64) -> i64 {
    runs("price");
    tokio::task::yield_now().await;
    start + 2
}

#[step(executor = Threads::new(2))]
fn pack(start: i64) -> i64 {
    runs("pack");
    start + 3
}

#[step(executor = Processes::new(1))]
fn weigh(pack: i64) -> i64 {
    runs("weigh");
    pack * 2
}

#[step(executor = Processes::new(1))]
fn crunch(price: i64, weigh: i64) -> Vec<i64> {
    runs("crunch");
    vec![price, weigh, price + weigh]
}

#[step]
fn line(n: i64) -> i64 {
    runs("line");
    n + 1
}

#[step(retry = Retry::attempts(2).backoff_factor(Duration::from_millis(1)))]
fn flaky(input: step::Input<'_>) -> Result<u32, BoxError> {
    runs("flaky");
    if input.step_try() == 1 { Err("not yet".into()) } else { Ok(input.step_try()) }
}

#[step]
fn label(again: Option<i64>, crunch: &[i64]) -> String {
    runs("label");
    format!("{crunch:?} {again:?}")
}

#[step(goto = [label])]
fn again(again: Option<i64>) -> Flow {
    runs("again");
    match again.unwrap_or(0) {
        2 => Flow::next(2_i64),
        n => Flow::goto("label", n + 1).into(),
    }
}

#[step]
fn finish(label: &str) -> String {
    runs("finish");
    label.to_uppercase()
}

fn steps() -> Steps {
    let lines = railbus::each("crunch", line).at_once(1);
    let steps = Steps::new().add(start).add(classify).add(review).add(refuse).add(price).add(pack);
    steps.add(weigh).add(crunch).add(lines).add(flaky).add(label).add(again).add(finish)
}

const FLOW: &str = "start -> classify(large -> review(0 |-> refuse)) -> price || {pack -> weigh} \
    -> crunch -> line -> flaky -> label -> again -> finish";

/// Runs or goes on with one run, to its end, and writes down what it came to.
async fn run(place: &Path) {
    let bus = Bus::open(format!("sqlite:{}", place.join("runs.db").display())).await.unwrap();
    let pipeline = Pipeline::new("twelve").steps(steps()).flow(FLOW).build().unwrap();
    let report = loop {
        let run = pipeline.run(store! { "order" => 7_i64 }).journal(&bus, "run").unwrap();
        let report = run.lease(LEASE).await;
        match report.error() {
            Some(error) if error.kind() == "journal" && error.line().contains("someone else") => {
                // sleep: the lease of the one that was killed runs out, and tells nobody.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            _ => break report,
        }
    };
    let path = report.path().collect::<Vec<_>>().join(" ");
    let came = format!("{} {}\n{path}", report.status(), report.store().to_json().unwrap());
    bus.close().await.unwrap();
    fs::write(place.join("came"), came).unwrap();
}

/// The run as a process, and where it works.
struct Scene(PathBuf);

impl Scene {
    fn start(&self) -> Child {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("the run that is killed").env(PLACE, &self.0).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.join("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until so many steps have run in all; tells whether the run ended before.
    fn until(&self, child: &mut Child, count: usize) -> bool {
        let start = Instant::now();
        while self.ran().len() < count {
            assert!(start.elapsed() < SOON, "{:?}", self.ran());
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            // sleep: another process works; nothing tells when it has.
            sleep(Duration::from_micros(200));
        }
        false
    }

    /// Lets it go on to its end; returns what it came to.
    fn end(&self) -> String {
        let status = self.start().wait().unwrap();
        assert!(status.success(), "{status}");
        fs::read_to_string(self.0.join("came")).unwrap()
    }

    fn kill(&self, mut child: Child) {
        // It may have ended by itself just now.
        let _ = child.kill();
        child.wait().unwrap();
    }
}

fn counts(ran: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    ran.iter().for_each(|name| *counts.entry(name.as_str()).or_default() += 1);
    counts
}

/// Holds a run that was disturbed against one that was not.
fn compare(
    scene: &Scene,
    kills: usize,
    came: &str,
    undisturbed: &(String, Vec<String>),
    how: &str,
) {
    let ran = scene.ran();
    assert_eq!(came, undisturbed.0, "{how}: {ran:?}");
    let (now, before) = (counts(&ran), counts(&undisturbed.1));
    for (name, count) in &before {
        let most = count + kills * if *name == "flaky" { 2 } else { 1 };
        let times = now.get(name).copied().unwrap_or_default();
        assert!((*count..=most).contains(&times), "{how}: {name} ran {times} times: {ran:?}");
    }
    // What was under way runs again: of a group at most one step of each member, of a step with
    // tries both of them.
    assert!(ran.len() <= undisturbed.1.len() + 2 * kills, "{how}: {ran:?}");
}

fn scene() -> (tempfile::TempDir, Scene) {
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene(folder.path().to_path_buf());
    (folder, scene)
}

fn disturb() -> usize {
    let (_folder, calm) = scene();
    let undisturbed = (calm.end(), calm.ran());
    assert_eq!(undisturbed.1.len(), 20, "{:?}", undisturbed.1);
    let all = env::var_os("RAILBUS_STRESS").is_some();
    let mut kills = 0;
    // At every point: when so many steps have begun, at once and a little later.
    let every = if all { 1 } else { 3 };
    for count in (1..=undisturbed.1.len()).step_by(every) {
        for late in [Duration::ZERO, Duration::from_millis(3)] {
            let (_folder, scene) = scene();
            let mut child = scene.start();
            scene.until(&mut child, count);
            // sleep: the kill is to come that much later.
            sleep(late);
            scene.kill(child);
            kills += 1;
            let came = scene.end();
            compare(&scene, 1, &came, &undisturbed, &format!("killed at step {count} + {late:?}"));
        }
    }
    // Several times in one run, at random moments.
    let seed = env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) * 7_919);
    println!("seed {seed}");
    let mut random = seed;
    let most = if all { 300 } else { 24 };
    while kills < most {
        let (_folder, scene) = scene();
        let mut mine = 0;
        loop {
            let mut child = scene.start();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let more = usize::try_from(random >> 60).unwrap() / 4;
            let over = scene.until(&mut child, scene.ran().len() + more);
            // sleep: a random moment between two steps.
            sleep(Duration::from_micros(random >> 52));
            scene.kill(child);
            mine += 1;
            if over || mine == 8 {
                break;
            }
        }
        let came = scene.end();
        compare(&scene, mine, &came, &undisturbed, &format!("killed {mine} times, seed {seed}"));
        kills += mine;
    }
    kills
}

fn main() -> ExitCode {
    if let Some(place) = env::var_os(PLACE) {
        worker::init(steps());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(run(Path::new(&place)));
        return ExitCode::SUCCESS;
    }
    let kills = disturb();
    println!("{kills} kills: every run came to what one comes to that nobody disturbs");
    ExitCode::SUCCESS
}
