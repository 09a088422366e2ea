//! Tasks that a worker is given ahead: what becomes of the one it runs, and of those behind it.

use super::{
    Case,
    crossing::{pid, sum},
    ends::{kill, signal},
    error,
    left_over::{SOON, parent, until},
    refused::twice,
    run, runtime,
};
use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, MaybeDone, join_all, maybe_done},
};
use railbus::{RunReport, Status, executors::Processes, step, store};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    future::Future,
    io::Write,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, id},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{select, time::timeout};

pub(crate) const CASES: &[Case] = &[
    ("a worker that dies fails the task that it ran, and no other", deaths_fail_one),
    ("no task is run twice, whenever workers are killed", kills_repeat_nothing),
    ("a task that is given up takes nobody with it", given_up_runs_alone),
    ("a task that is given up before its turn is not run", given_up_waits_are_not_run),
    ("a long task keeps nobody from an idle worker", long_tasks_hold_nobody_up),
    ("no worker has more tasks than it may", tasks_are_counted),
    ("runtimes take turns", runtimes_take_turns),
    ("a task that its worker never read is given to another", unread_tasks_are_given_to_another),
    ("long tasks wait among short ones", long_ones_wait_among_short_ones),
];

/// Notes that it ran, and does what it is told.
#[step]
pub(crate) fn notes(file: &str, n: u32, how: &str) -> u32 {
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    // In one piece, for whoever reads meanwhile.
    file.write_all(format!("{n}\n").as_bytes()).unwrap();
    match how {
        "die" => kill(id()),
        "well" => {}
        // Waits for a file.
        other => {
            while !Path::new(other).exists() {
                // sleep: a file does not tell that it is there.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    id()
}

/// Notes of tasks, in a file.
struct Notes(TempDir);

impl Notes {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, pool: &Processes, n: u32, how: &str) -> impl Future<Output = RunReport> + use<> {
        let file = self.path("notes").to_str().unwrap().to_owned();
        let how = how.to_owned();
        run(notes(), pool.clone(), store! { "file" => file, "n" => n, "how" => how })
    }

    /// Runs some that are quick, so that the next are given ahead.
    async fn warm(&self, pool: &Processes) {
        let all = join_all((1000..1200).map(|n| self.run(pool, n, "well"))).await;
        assert!(all.iter().all(|report| report.status() == Status::Success));
    }

    /// Returns how often each of those below a thousand ran.
    fn read(&self) -> BTreeMap<u32, usize> {
        let mut ran = BTreeMap::new();
        for n in fs::read_to_string(self.path("notes")).unwrap_or_default().lines() {
            *ran.entry(n.parse().unwrap()).or_default() += 1;
        }
        ran.retain(|n, _| *n < 1000);
        ran
    }

    fn has(&self, n: u32) -> bool {
        self.read().contains_key(&n)
    }
}

fn all_once(to: u32) -> BTreeMap<u32, usize> {
    (0..to).map(|n| (n, 1)).collect()
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.unwrap_or_else(|_| panic!("not soon: {what}"))
}

fn deaths_fail_one() {
    let (notes, pool) = (Notes::new(), Processes::new(1));
    runtime().block_on(async {
        notes.warm(&pool).await;
        let how = |n: u32| if n % 10 == 7 { "die" } else { "well" };
        let all = join_all((0..100).map(|n| notes.run(&pool, n, how(n)))).await;
        for (n, report) in (0..).zip(&all) {
            let wanted = if n % 10 == 7 { Status::Exception } else { Status::Success };
            assert_eq!(report.status(), wanted, "{n}: {report}");
            assert!(how(n) == "well" || error(report).contains("SIGKILL"), "{}", error(report));
        }
    });
    assert_eq!(notes.read(), all_once(100));
}

fn kills_repeat_nothing() {
    let (notes, pool) = (Notes::new(), Processes::new(1));
    let ended = AtomicBool::new(false);
    runtime().block_on(notes.warm(&pool));
    let (failed, kills) = thread::scope(|scope| {
        let killing = scope.spawn(|| {
            let mut killed = BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                for worker in workers() {
                    if killed.insert(worker) {
                        // It may have ended since.
                        let kill = Command::new("kill").args(["-9", &worker.to_string()]).output();
                        drop(kill);
                    }
                }
                // sleep: so that a worker does some work before it is killed.
                thread::sleep(Duration::from_millis(2));
            }
            killed.len()
        });
        let failed = runtime().block_on(async {
            let mut failed = 0;
            for first in (0..900).step_by(100) {
                let all = (first..first + 100).map(|n| notes.run(&pool, n, "well"));
                let not = |report: &&RunReport| report.status() != Status::Success;
                failed += join_all(all).await.iter().filter(not).count();
            }
            failed
        });
        ended.store(true, Ordering::Relaxed);
        (failed, killing.join().unwrap())
    });
    assert!(kills > 1 && failed <= kills, "{failed} failed by {kills} kills");
    let ran = notes.read();
    assert!(ran.values().all(|times| *times == 1), "{ran:?}");
    assert!(ran.len() + failed >= 900, "{} ran, {failed} failed", ran.len());
}

/// The workers of this program.
fn workers() -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        (line.starts_with(b"railbus-worker") && parent(pid) == Some(id())).then_some(pid)
    });
    all.collect()
}

async fn begun(notes: &Notes, n: u32) {
    while !notes.has(n) {
        // sleep: a file does not tell what is written to it.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn takes_its_time(notes: &Notes, n: u32) {
    begun(notes, n).await;
    // sleep: longer than what was given ahead stays with a worker that is not done.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Has the third of thirty hang, with others given ahead behind it; the rest goes on when `then`
/// has decided what is still wanted.
fn among_thirty(pool: &Processes, then: impl FnOnce(&Notes, &mut Vec<Option<Run>>)) -> Notes {
    let notes = Notes::new();
    runtime().block_on(async {
        notes.warm(pool).await;
        let file = notes.path("go on");
        let how = |n: u32| if n == 2 { file.to_str().unwrap() } else { "well" };
        let run = |n: u32| Some(Box::pin(maybe_done(notes.run(pool, n, how(n)).boxed_local())));
        let mut runs: Vec<Option<Run>> = (0..30).map(run).collect();
        select! {
            _ = join_all(runs.iter_mut().flatten()) => unreachable!(),
            () = takes_its_time(&notes, 2) => {}
        }
        then(&notes, &mut runs);
        soon("the others go on", join_all(runs.iter_mut().flatten())).await;
        let reports = runs.iter_mut().flatten().map(|run| run.as_mut().take_output().unwrap());
        assert!(reports.into_iter().all(|report| report.status() == Status::Success));
    });
    notes
}

type Run = Pin<Box<MaybeDone<LocalBoxFuture<'static, RunReport>>>>;

fn given_up_runs_alone() {
    let pool = Processes::new(1);
    let notes = among_thirty(&pool, |_, runs| runs[2] = None);
    assert_eq!(notes.read(), all_once(30));
}

fn given_up_waits_are_not_run() {
    let pool = Processes::new(1);
    let of = || runtime().block_on(run(pid(), pool.clone(), store! {}));
    let before = *of().get::<u32>("pid").unwrap();
    let notes = among_thirty(&pool, |notes, runs| {
        (runs[3], runs[9]) = (None, None);
        fs::write(notes.path("go on"), "").unwrap();
    });
    let mut wanted = all_once(30);
    wanted.retain(|n, _| ![3, 9].contains(n));
    assert_eq!(notes.read(), wanted);
    assert_eq!(*of().get::<u32>("pid").unwrap(), before, "a worker was killed");
}

fn long_tasks_hold_nobody_up() {
    // Again and again, since a worker may also have had no time to begin the long one.
    for _ in 0..10 {
        let (notes, pool) = (Notes::new(), Processes::new(2));
        runtime().block_on(async {
            notes.warm(&pool).await;
            let never = notes.path("never");
            let how = |n: u32| if n == 5 { never.to_str().unwrap() } else { "well" };
            let all = join_all((0..40).map(|n| notes.run(&pool, n, how(n))));
            let begun = async {
                for n in 0..40 {
                    begun(&notes, n).await;
                }
            };
            select! {
                _ = all => unreachable!(),
                () = soon("all begin but for the long one", begun) => {}
            }
        });
        assert_eq!(notes.read(), all_once(40));
    }
}

fn tasks_are_counted() {
    let (notes, pool) = (Notes::new(), Processes::new(1).max_tasks_per_child(3));
    let mut tasks = BTreeMap::<u32, usize>::new();
    for report in runtime().block_on(join_all((0..64).map(|n| notes.run(&pool, n, "well")))) {
        *tasks.entry(*report.get::<u32>("notes").unwrap()).or_default() += 1;
    }
    assert_eq!(tasks.len(), 22);
    assert_eq!(tasks.values().filter(|tasks| **tasks == 3).count(), 21, "{tasks:?}");
}

fn runtimes_take_turns() {
    let pool = Processes::new(1);
    let work = || {
        runtime().block_on(async {
            for _ in 0..20 {
                let all = (0..50).map(|n| run(twice(), pool.clone(), store! { "n" => n }));
                for (n, report) in (0..).zip(join_all(all).await) {
                    assert_eq!(*report.get::<i64>("twice").unwrap(), 2 * n, "{report}");
                }
            }
        });
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(work);
        }
    });
}

fn unread_tasks_are_given_to_another() {
    let pool = Processes::new(1);
    runtime().block_on(async {
        for _ in 0..5 {
            let report = run(pid(), pool.clone(), store! {}).await;
            let worker = *report.get::<u32>("pid").unwrap_or_else(|_| panic!("{report}"));
            // It is given the task, and is not there to read it.
            signal(worker, "STOP");
            until("all its threads stand still", || stands_still(worker));
            let next =
                async { tokio::join!(run(pid(), pool.clone(), store! {}), kill_later(worker)) };
            let (report, ()) = soon("another runs it", next).await;
            let other = *report.get::<u32>("pid").unwrap_or_else(|_| panic!("{report}"));
            assert_ne!(other, worker);
        }
    });
}

fn stands_still(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.all(|thread| {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    })
}

async fn kill_later(worker: u32) {
    tokio::task::yield_now().await;
    kill(worker);
}

fn long_ones_wait_among_short_ones() {
    let (notes, pool) = (Notes::new(), Processes::new(1));
    runtime().block_on(async {
        notes.warm(&pool).await;
        let all = (0..60).map(|n| {
            let many: Vec<i64> = (0..if n % 7 == 0 { 40_000 } else { 3 }).collect();
            let total = many.iter().sum::<i64>();
            let report = run(sum(), pool.clone(), store! { "data" => many });
            async move { assert_eq!(*report.await.get::<i64>("sum").unwrap(), total) }
        });
        join_all(all).await;
    });
}
