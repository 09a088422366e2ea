//! A fleet of three processes that run the same runs on one PostgreSQL: killed with SIGKILL in the
//! middle of steps, stopped past their leases and let go on, their server killed too. Each run comes to
//! what one comes to that nobody disturbs, and is one process's at a time. `RAILBUS_STRESS=1` makes it
//! 300 disturbances, `RAILBUS_SEED` repeats a run.
#![cfg(all(feature = "postgres", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Error, ErrorKind, Failure, Flow, Pipeline, RunReport, StepDef, StepError,
    backend::{RecordStatus, RunFilter},
    each, parallel, store,
};
use railbus_testbed::Postgres;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, HashSet, btree_map::Entry},
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

const PLACE: &str = "FLEET_KILL_PLACE";
const URL: &str = "FLEET_KILL_URL";

/// Short, so that what a kill left is soon taken over.
const LEASE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(60);

fn write(name: &str, line: &str) {
    let Ok(place) = env::var(PLACE) else { return };
    let path = Path::new(&place).join(name);
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn lines(place: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(place.join(name)).unwrap_or_default();
    // A line that a kill cut short was not written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(Into::into).collect()
}

/// Returns the highest number of an order that a line begins with.
fn newest(place: &Path, name: &str) -> Option<i64> {
    let order = |line: &String| line.split(' ').next()?.parse().ok();
    lines(place, name).iter().filter_map(order).max()
}

/// A step that says that it runs, and takes a moment, in which it may be disturbed.
fn step(name: &'static str, works: fn(i64) -> Flow) -> StepDef {
    let needs = match name {
        "start" => "order",
        "item" => "item",
        _ => "start",
    };
    let step = StepDef::fallible(name, move |input| {
        let order = *input.get::<i64>("order")?;
        write("ran", &format!("{order} {name} {}", std::process::id()));
        // sleep: work that takes its time, so that a kill may come in the middle of it.
        sleep(Duration::from_millis(3));
        Ok(works(*input.get::<i64>(needs)?))
    });
    // Of a step that takes items, the first is the item.
    let step = if needs == "order" { step } else { step.needs::<i64>(needs) };
    step.needs::<i64>("order")
}

fn pipeline() -> Pipeline {
    let refuse = StepDef::fallible("refuse", |_| Err(Failure::new("no").value(7).into()));
    Pipeline::new("fleet")
        .step(step("start", |n| Flow::next(n * 10)))
        .step(refuse)
        .on_failure(step("sorry", |n| Flow::next(n + 1)))
        .step(parallel((step("left", |n| Flow::next(n + 2)), step("right", |n| Flow::next(n + 3)))))
        .step(each("items", step("item", |n| Flow::next(n * n))).at_once(1))
        .step(step("end", |n| Flow::next(vec![n, 1])))
        .build()
        .unwrap()
}

/// How often steps run in a run that nobody disturbs.
const STEPS: usize = 8;

fn given(order: i64) -> railbus::Store {
    store! { "order" => order, "items" => [1_i64, 2, 3] }
}

fn of(report: &RunReport) -> Option<&Error> {
    match report.error() {
        Some(StepError::Exception(exception)) => exception.error.downcast_ref(),
        _ => None,
    }
}

/// Runs order after order until told to stop, as the others do.
async fn run_for_ever(url: &str) {
    let bus = loop {
        match Bus::open(url).await {
            Ok(bus) => break bus,
            Err(error) => assert!(heals(&error), "{error}"),
        }
    };
    let (pipeline, place) = (pipeline(), env::var(PLACE).unwrap());
    let place = Path::new(&place);
    // What others left comes first: those behind are over.
    let mut order = newest(place, "came").unwrap_or(0);
    let stop = || fs::read_to_string(place.join("stop")).ok()?.parse::<i64>().ok();
    while stop().is_none_or(|stop| order < stop) {
        let run = pipeline.run(given(order)).journal(&bus, format!("order-{order}")).unwrap();
        let report = run.lease(LEASE).when_free().await;
        match of(&report) {
            None => {
                let came = report.store().to_json().unwrap();
                write("came", &format!("{order} {} {came}", report.status()));
                order += 1;
            }
            Some(error) if error.kind() == ErrorKind::Stale => write("stale", &error.to_string()),
            Some(error) => assert!(heals(error), "{error}"),
        }
    }
    bus.close().await.unwrap();
}

fn heals(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role() {
    let Ok(url) = env::var(URL) else { return };
    run_for_ever(&url).await;
}

/// A process that does not outlive the test.
struct Worker(Child);

impl Worker {
    fn start(place: &Path, url: &str) -> Self {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "role", "--nocapture"])
            .env(PLACE, place)
            .env(URL, url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn kill(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "a worker ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A small random generator, so that a seed repeats a run's disturbances.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Waits until so many steps have run.
fn until(place: &Path, steps: usize) {
    let began = Instant::now();
    while lines(place, "ran").len() < steps {
        assert!(began.elapsed() < SOON, "the workers do not go on: {steps}");
        // sleep: other processes work; their progress tells nobody.
        sleep(Duration::from_micros(500));
    }
}

/// How often what was done.
#[derive(Debug, Default)]
struct Done {
    kills: usize,
    stops: usize,
    server: usize,
}

fn disturb(place: &Path, url: &str, server: &Postgres, random: &mut Random) -> Done {
    let most = if env::var_os("RAILBUS_STRESS").is_some() { 300 } else { 14 };
    let mut workers = [(); 3].map(|()| Worker::start(place, url));
    let mut done = Done::default();
    for n in 1..=most {
        until(place, lines(place, "ran").len() + 1 + random.below(6) as usize);
        // sleep: a moment within a step that nobody can foresee.
        sleep(Duration::from_micros(random.below(4_000)));
        let one = &mut workers[random.below(3) as usize];
        match n % 7 {
            3 => {
                one.signal(Signal::STOP);
                // sleep: past its lease, so that others take over what it has.
                sleep(LEASE * 2);
                one.signal(Signal::CONT);
                done.stops += 1;
            }
            5 => {
                server.kill().unwrap();
                server.start_again().unwrap();
                done.server += 1;
            }
            _ => {
                one.kill();
                *one = Worker::start(place, url);
                done.kills += 1;
            }
        }
    }
    // All that was begun is brought to its end.
    let last = newest(place, "ran").unwrap_or(0);
    fs::write(place.join("stop"), (last + 3).to_string()).unwrap();
    let began = Instant::now();
    for worker in &mut workers {
        while worker.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < SOON, "the workers do not end");
            // sleep: another process works; its end tells nobody.
            sleep(Duration::from_millis(5));
        }
        assert!(worker.0.wait().unwrap().success());
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_run_of_a_fleet_comes_to_what_one_comes_to_that_nobody_disturbs() {
    let seed = env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(u64::from(std::process::id()) * 7_919 + 1);
    eprintln!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    let server = Postgres::options().fsync(true).start().unwrap();
    let url = server.database().unwrap().url("postgres-queue");
    let url = format!("{url}?connect_timeout=5s&statement_timeout=5s");
    let at = url.clone();
    let disturbing = tokio::task::spawn_blocking(move || {
        let done = disturb(&place, &at, &server, &mut Random(seed));
        (server, done)
    });
    let (_server, done) = disturbing.await.unwrap();
    verify(folder.path(), &url, &done).await;
}

async fn verify(place: &Path, url: &str, done: &Done) {
    let (came, ran) = (lines(place, "came"), lines(place, "ran"));
    let bus = Bus::open(url).await.unwrap();
    let journal = bus.journal().unwrap();
    let runs = journal.list(&RunFilter::default()).await.unwrap();
    let resumed: u64 = runs.iter().map(|run| run.resumed).sum();
    let stale = lines(place, "stale").len();
    eprintln!(
        "{done:?}: {} runs, {} steps, {resumed} taken over, {stale} refused",
        runs.len(),
        ran.len()
    );
    // What everyone was told of a run is what one comes to that is not kept, and so not disturbed.
    let mut expected = BTreeMap::new();
    for line in &came {
        let order: i64 = line.split(' ').next().unwrap().parse().unwrap();
        if let Entry::Vacant(new) = expected.entry(order) {
            let report = pipeline().run(given(order)).await;
            new.insert(format!("{} {}", report.status(), report.store().to_json().unwrap()));
        }
        assert_eq!(line, &format!("{order} {}", expected[&order]));
    }
    let mut places = HashSet::new();
    let mut recorded = 0;
    for run in &runs {
        let found = journal.load(&run.id).await.unwrap().unwrap();
        assert_eq!(run.state.name(), "success", "{run:?}");
        for one in &found.records {
            let place = (run.id.clone(), one.record.path.clone(), one.record.visit);
            assert!(places.insert(place), "recorded twice: {one:?}");
            recorded += usize::from(one.record.status == RecordStatus::Success);
        }
    }
    assert_eq!(recorded, runs.len() * STEPS, "each step of each run is recorded, and once");
    // What was under way runs again where a run is taken over, of a group both its members; nobody runs
    // a step of a run that another has.
    let disturbed = done.kills + done.stops + 3 * done.server;
    assert!(resumed > 0, "no run was taken over");
    // Where it is busy a lease may run out by itself, now and then.
    assert!(resumed as usize <= 2 * disturbed + 10, "{resumed} were taken over: {done:?}");
    let most = recorded + 2 * resumed as usize;
    assert!((recorded..=most).contains(&ran.len()), "{} not {recorded}..={most}", ran.len());
    bus.close().await.unwrap();
}
