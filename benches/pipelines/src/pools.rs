//! P4: a step on a pool of threads that are there, alone and five at once.

use harness::{Contender, Goal, Result, Row, Sheet, Timed, timed};
use railbus::{Pipeline, Status, StepDef, executors::Threads, parallel, store};
use std::{hint::black_box, sync::Arc};
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Result<Arc<Runtime>> {
    Ok(Arc::new(Builder::new_current_thread().enable_all().build()?))
}

/// Hands `at_once` closures to a pool, and waits until the last has told a task of the runtime.
fn rayon(runtime: &Runtime, pool: &rayon::ThreadPool, at_once: usize, times: u64) -> Result<Timed> {
    timed(|| {
        runtime.block_on(async {
            for _ in 0..times {
                let mut told = Vec::with_capacity(at_once);
                for _ in 0..at_once {
                    let (tell, hear) = tokio::sync::oneshot::channel();
                    pool.spawn(move || {
                        let _ = tell.send(black_box(1));
                    });
                    told.push(hear);
                }
                for hear in told {
                    hear.await?;
                }
            }
            Ok(times)
        })
    })
}

fn ours(runtime: &Runtime, pipeline: &Pipeline, times: u64) -> Result<Timed> {
    timed(|| {
        runtime.block_on(async {
            for _ in 0..times {
                let report = black_box(pipeline.run(store! {}).await);
                if report.status() != Status::Success {
                    return Err("a run did not succeed".into());
                }
            }
            Ok(times)
        })
    })
}

pub(crate) fn threads(sheet: &mut Sheet) -> Result<()> {
    let step = |name: &str| StepDef::value(name, |_| ()).executor(Threads::new(2));
    let alone = Pipeline::new("p").step(step("a")).build()?;
    let group = parallel(["a", "b", "c", "d", "e"].map(step));
    let group = Pipeline::new("p").step(group).build()?;
    let rows = [("alone", 1, alone), ("5 at once", 5, group)];
    for (how, at_once, pipeline) in rows {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
        let (a, b) = (runtime()?, runtime()?);
        let floor = Contender::base("rayon", move |times| rayon(&a, &pool, at_once, times));
        let ours = Contender::subject("railbus", move |times| ours(&b, &pipeline, times));
        let row = match how {
            "alone" => Row::new("P4", "a step on a thread, alone", Goal::Times(1.3)),
            _ => Row::new("P4", "five steps on threads at once", Goal::Times(1.3)),
        };
        sheet.measure(row.with(floor).with(ours))?;
    }
    Ok(())
}
