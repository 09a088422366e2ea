//! P7: P1 with a journal on sqlite, beside bare commits of the same bytes.

use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed, timed};
use railbus::{Bus, Pipeline, Status, StepDef, store};
use rusqlite::{Connection, TransactionBehavior::Immediate};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

/// How many runs go on at once, where it is not one after another.
const AT_ONCE: u64 = 64;

/// How many commits a run is: its beginning, five steps, its end.
const COMMITS: usize = 7;

pub(crate) fn full(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "P7", "full", ["P1 kept, one run at a time; FULL", "64 runs at once; FULL"])
}

pub(crate) fn normal(sheet: &mut Sheet) -> Result<()> {
    let work = ["P1 kept, one run at a time; NORMAL", "64 runs at once; NORMAL"];
    measure(sheet, "P7-normal", "normal", work)
}

fn measure(
    sheet: &mut Sheet,
    id: &'static str,
    sync: &'static str,
    work: [&'static str; 2],
) -> Result<()> {
    let bodies = bodies()?;
    for (work, at_once, times) in [(work[0], 1, 300), (work[1], AT_ONCE, 6_400)] {
        let bare = |times| bare(sync, &bodies, at_once, times);
        let base = Contender::base("bare commits", bare).times(times);
        let subject = Contender::subject("railbus", |times| kept(sync, at_once, times));
        let row = Row::new(id, work, Goal::Nothing).with(base);
        sheet.measure(row.with(subject.times(times)))?;
    }
    Ok(())
}

struct Place(TempDir);

impl Place {
    fn new() -> Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    fn file(&self) -> String {
        self.0.path().join("runs.db").display().to_string()
    }

    async fn bus(&self, sync: &str) -> Result<Bus> {
        Ok(Bus::open(format!("sqlite:{}?synchronous={sync}", self.file())).await?)
    }

    fn count(&self, query: &str) -> Result<u64> {
        let store = Connection::open(self.file())?;
        Ok(store.query_row(query, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn pipeline() -> Result<Pipeline> {
    let names = ["a", "b", "c", "d", "e"];
    let add = |line: railbus::PipelineBuilder, name| line.step(StepDef::value(name, |_| ()));
    Ok(names.into_iter().fold(Pipeline::new("p"), add).build()?)
}

/// Runs so many pipelines, so many at once; returns how many succeeded.
async fn run_all(bus: &Bus, pipeline: &Pipeline, at_once: u64, times: u64) -> Result<u64> {
    let line = |first: u64| {
        let (bus, pipeline) = (bus.clone(), pipeline.clone());
        async move {
            let mut succeeded = 0;
            for n in (first..times).step_by(at_once as usize) {
                let run = pipeline.run(store! {}).journal(&bus, format!("run-{n}"))?;
                succeeded += u64::from(run.await.status() == Status::Success);
            }
            Ok::<u64, Failed>(succeeded)
        }
    };
    let tasks: Vec<_> = (0..at_once).map(|first| tokio::spawn(line(first))).collect();
    let mut succeeded = 0;
    for task in tasks {
        succeeded += task.await??;
    }
    Ok(succeeded)
}

fn kept(sync: &str, at_once: u64, times: u64) -> Result<Timed> {
    let (place, runtime, pipeline) = (Place::new()?, runtime()?, pipeline()?);
    let timed = runtime.block_on(async {
        let bus = place.bus(sync).await?;
        let runtime = Handle::current();
        let all = || {
            let all = run_all(&bus, &pipeline, at_once, times);
            tokio::task::block_in_place(|| runtime.block_on(all))
        };
        let timed = timed(all)?;
        bus.close().await?;
        Ok::<_, Failed>(timed)
    })?;
    match place.count("SELECT count(*) FROM journal_records")? == times * 5 {
        true => Ok(timed),
        false => Err("a step is not recorded".into()),
    }
}

/// What one run writes, a text a commit.
fn bodies() -> Result<Vec<String>> {
    let (place, pipeline) = (Place::new()?, pipeline()?);
    runtime()?.block_on(async {
        let bus = place.bus("normal").await?;
        run_all(&bus, &pipeline, 1, 1).await?;
        bus.close().await?;
        Ok::<_, Failed>(())
    })?;
    let store = Connection::open(place.file())?;
    let mut bodies = vec!["run-0 p process 12345 {}".to_owned()];
    let mut records = store.prepare("SELECT path || body FROM journal_records ORDER BY number")?;
    for body in records.query_map([], |row| row.get(0))? {
        bodies.push(body?);
    }
    bodies.push("success".into());
    match bodies.len() == COMMITS {
        true => Ok(bodies),
        false => Err(format!("a run is {} commits", bodies.len()).into()),
    }
}

/// Commits the bytes of so many runs, those at once in one transaction.
fn bare(sync: &str, bodies: &[String], at_once: u64, times: u64) -> Result<Timed> {
    let place = Place::new()?;
    let mut store = Connection::open(place.file())?;
    store.pragma_update(None, "journal_mode", "wal")?;
    store.pragma_update(None, "synchronous", sync)?;
    store.execute_batch("CREATE TABLE records (id INTEGER PRIMARY KEY, body TEXT NOT NULL);")?;
    let timed = timed(|| {
        for _ in 0..times / at_once {
            for body in bodies {
                let transaction = store.transaction_with_behavior(Immediate)?;
                for _ in 0..at_once {
                    let insert = "INSERT INTO records (body) VALUES (?1)";
                    transaction.prepare_cached(insert)?.execute([body])?;
                }
                transaction.commit()?;
            }
        }
        Ok(times)
    })?;
    let stored = place.count("SELECT count(*) FROM records")? / COMMITS as u64;
    Ok(Timed { arrived: stored, ..timed })
}
