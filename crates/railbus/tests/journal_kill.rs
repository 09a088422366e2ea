//! Three processes that run runs, killed with SIGKILL at random points, and their server too: what
//! `record` returned for is there, nothing else is, and each run has one holder at a time.
//! `RAILBUS_STRESS=1` makes it 300 kills, `RAILBUS_SEED` repeats a run.
#![cfg(any(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Error, ErrorKind,
    backend::{Begun, Journal, NewRun, Record, RunEnd, RunFilter, RunLease},
    store,
};
use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const STEPS: usize = 12;

/// Short, so that a run that a kill left is soon taken over.
const LEASE: Duration = Duration::from_millis(300);

struct Place(PathBuf);

impl Place {
    fn write(&self, name: &str, line: &str) {
        let mut log = OpenOptions::new().create(true).append(true).open(self.0.join(name)).unwrap();
        log.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
        // A line that a kill cut short was not written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Into::into).collect()
    }
}

/// Runs one run after another for ever, as any number of others do; whoever comes late passes on.
async fn run_for_ever(place: &Place, url: &str) {
    let bus = loop {
        match Bus::open(url).await {
            Ok(bus) => break bus,
            Err(error) => wait_for_server(&error).await,
        }
    };
    let journal = bus.journal().unwrap();
    let owner = std::process::id().to_string();
    // What others left comes first.
    let first = place.lines("ended").len().saturating_sub(4);
    for n in first.. {
        let mut run = NewRun::new(format!("r-{n}"), "twelve", "twelve steps");
        (run.owner, run.lease) = (owner.clone(), LEASE);
        loop {
            let begun = match journal.begin(&run).await {
                Ok(begun) => begun,
                Err(error) => {
                    wait_for_server(&error).await;
                    continue;
                }
            };
            let held = |lease: &RunLease| format!("{} {}", run.id, lease.fence);
            let lease = match begun {
                Begun::New(lease) => {
                    place.write("new", &held(&lease));
                    lease
                }
                Begun::Resumed(lease) => {
                    place.write("taken", &held(&lease));
                    lease
                }
                Begun::Elsewhere(held) => {
                    // sleep: another process has it; its end tells nobody.
                    tokio::time::sleep(held.lease_left.min(Duration::from_millis(5))).await;
                    continue;
                }
                Begun::Finished(_) => break,
                other => panic!("{other:?}"),
            };
            match go_on(place, &*journal, &lease, &owner).await {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::Stale => {}
                Err(error) => wait_for_server(&error).await,
            }
        }
    }
}

/// Waits for a server that is down; nothing else may go wrong.
async fn wait_for_server(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
    // sleep: a server that starts again tells nobody.
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Runs what is not recorded: writes down each value before it is recorded, and again once that is
/// confirmed.
async fn go_on(
    place: &Place,
    journal: &dyn Journal,
    lease: &RunLease,
    owner: &str,
) -> railbus::Result<()> {
    let known = journal.load(&lease.run).await?.unwrap().records.len();
    for step in known..STEPS {
        let value = format!("{}/step-{step}/{owner}-{}", lease.run, lease.fence);
        place.write("tried", &value);
        let mut record = Record::new(format!("step-{step}"), 1);
        record.values = store! { "value" => value.clone() };
        let _ = journal.record(lease, &[record]).await?;
        place.write("confirmed", &value);
    }
    journal.end(lease, RunEnd::Success, None).await?;
    place.write("ended", &lease.run);
    Ok(())
}

#[tokio::test]
async fn role() {
    let Ok(place) = std::env::var("JOURNAL_PLACE") else { return };
    run_for_ever(&Place(place.into()), &std::env::var("JOURNAL_URL").unwrap()).await;
}

/// A child that does not outlive the test.
struct Worker(Child);

impl Worker {
    fn start(place: &Path, url: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "role", "--nocapture"])
            .env("JOURNAL_PLACE", place)
            .env("JOURNAL_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
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

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn what_record_returned_for_survives_kills_and_nothing_is_invented() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.db");
    disturb(folder.path(), &format!("sqlite:{}", file.display()), || {}).await;
    let store = rusqlite::Connection::open(file).unwrap();
    let sound: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_record_returned_for_survives_kills_of_processes_and_of_their_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = railbus_testbed::Postgres::options().fsync(true).start().unwrap();
    let url = server.database().unwrap().url("postgres-queue");
    let url = format!("{url}?connect_timeout=5s&statement_timeout=5s");
    disturb(folder.path(), &url, || {
        server.kill().unwrap();
        server.start_again().unwrap();
    })
    .await;
}

/// Kills processes at random, and the server now and then.
async fn disturb(folder: &Path, url: &str, kill_server: impl Fn()) {
    let kills = if std::env::var_os("RAILBUS_STRESS").is_some() { 300 } else { 12 };
    let given = std::env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = given.unwrap_or(clock | 1);
    eprintln!("seed {seed}, {kills} kills");
    let mut random = Random(seed);
    let place = Place(folder.to_owned());
    let mut workers = [(); 3].map(|()| Worker::start(folder, url));
    let mut killed = 0;
    // Some kills hit a process that only starts, or waits for the others.
    while killed < kills || place.lines("taken").is_empty() {
        assert!(killed < 10 * kills, "no kill hits a run");
        // sleep: a kill must come at a moment that nobody can foresee.
        tokio::time::sleep(Duration::from_millis(10 + random.below(120))).await;
        let one = &mut workers[random.below(3) as usize];
        one.kill();
        *one = Worker::start(folder, url);
        killed += 1;
        if killed % 6 == 0 {
            kill_server();
        }
    }
    // All that was begun is brought to its end.
    let some = place.lines("new").len() + 5;
    let began = Instant::now();
    while place.lines("ended").len() < some {
        assert!(began.elapsed() < Duration::from_secs(60), "the workers do not go on");
        // sleep: other processes work; their progress tells nobody.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    workers.iter_mut().for_each(Worker::kill);
    // Of each kill of the server all three.
    verify(&place, url, killed + killed / 6 * 3).await;
}

async fn verify(place: &Place, url: &str, disturbed: u64) {
    let tried: HashSet<String> = place.lines("tried").into_iter().collect();
    let confirmed = place.lines("confirmed");
    let bus = Bus::open(url).await.unwrap();
    let journal = bus.journal().unwrap();
    let mut recorded = BTreeMap::new();
    let (mut finished, mut resumed, mut begun) = (0, 0, 0);
    for run in journal.list(&RunFilter::default()).await.unwrap() {
        let found = journal.load(&run.id).await.unwrap().unwrap();
        assert_eq!(run.records, found.records.len() as u64);
        for (step, one) in found.records.iter().enumerate() {
            assert_eq!(one.record.path, format!("step-{step}"), "in the order of the steps");
            let value = one.record.values.get::<String>("value").unwrap();
            recorded.insert(value.to_string(), run.id.clone());
        }
        if run.ended_at.is_some() {
            assert_eq!(found.records.len(), STEPS, "{run:?}");
            finished += 1;
        }
        resumed += run.resumed;
        begun += 1;
    }
    let lost: Vec<_> = confirmed.iter().filter(|v| !recorded.contains_key(*v)).collect();
    let invented: Vec<_> = recorded.keys().filter(|v| !tried.contains(*v)).collect();
    let new = place.lines("new");
    eprintln!(
        "{} runs begun, {finished} ended, {resumed} taken over, {} places tried, {} confirmed, {} recorded",
        new.len(),
        tried.len(),
        confirmed.len(),
        recorded.len()
    );
    assert!(lost.is_empty(), "confirmed and not there: {lost:?}");
    assert!(invented.is_empty(), "there and never tried: {invented:?}");
    assert!(resumed > 0, "no run was taken over");
    // Where it is busy a lease may run out by itself, now and then.
    assert!(resumed <= 2 * disturbed + 10, "{resumed} were taken over");
    // Whoever was killed in between has not said that it took a run; nobody has taken one that another
    // has, who would have the same fence.
    let held: Vec<_> = new.iter().cloned().chain(place.lines("taken")).collect();
    let distinct: HashSet<_> = held.iter().collect();
    assert_eq!(distinct.len(), held.len(), "two had one run: {held:?}");
    assert!(held.len() as u64 <= begun + resumed, "more were had than the journal knows");
    bus.close().await.unwrap();
}
