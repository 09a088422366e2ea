//! Steps in worker processes: this very program, started again. Every way a worker may come to its
//! end fails one task, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_pass_by_value)]

#[path = "executors_processes/ends.rs"]
mod ends;
#[path = "executors_processes/crossing.rs"]
mod crossing;
#[path = "executors_processes/refused.rs"]
mod refused;
#[path = "executors_processes/left_over.rs"]
mod left_over;
#[path = "executors_processes/ahead.rs"]
mod ahead;
#[path = "executors_processes/harsh.rs"]
mod harsh;

use railbus::{Pipeline, RunReport, StepDef, Steps, Store, executors::Processes, worker};
use std::{env, process::ExitCode};
use tokio::runtime::{Builder, Runtime};

/// One that fails is told of by its panic.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    if env::var_os("PRINTS_FIRST").is_some() {
        println!("Welcome!");
    }
    worker::init(
        Steps::new()
            .add(crossing::pid)
            .add(crossing::sum)
            .add(crossing::later)
            .add(crossing::falls)
            .add(crossing::goes)
            .add(crossing::who)
            .add(crossing::prints)
            .add(crossing::logs)
            .add(crossing::greets)
            .add(ends::dies)
            .add(ends::fills)
            .add(left_over::hangs)
            .add(ahead::notes)
            .add(harsh::spins)
            .add(harsh::writes_raw)
            .add(harsh::leaves)
            .add(harsh::lengthens)
            .add(harsh::pipes)
            .add(refused::twice)
            .add(refused::opaque)
            .add(refused::whole)
            .add(refused::stateful)
            .state(String::from("Good day")),
    );
    match env::args().nth(1).as_deref() {
        Some("hang") => left_over::hang(),
        Some("spin") => harsh::spin(),
        Some("deleted") => harsh::deleted(),
        Some("prints") => refused::prints(),
        Some("replaced") => refused::replaced(),
        // What a test runner passes on names cases.
        wanted => {
            let all = [
                crossing::CASES,
                ends::CASES,
                refused::CASES,
                ahead::CASES,
                harsh::CASES,
                left_over::CASES,
            ]
            .concat();
            let wanted = wanted.filter(|wanted| !wanted.starts_with('-')).unwrap_or_default();
            for (name, case) in all.into_iter().filter(|(name, _)| name.contains(wanted)) {
                println!("{name}");
                case();
            }
        }
    }
    ExitCode::SUCCESS
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs one step by a pool.
async fn run(step: StepDef, pool: Processes, store: Store) -> RunReport {
    Pipeline::new("p").step(step.executor(pool)).build().unwrap().run(store).await
}

/// What went wrong in the first step.
fn error(report: &RunReport) -> String {
    report.steps()[0].error.clone().unwrap_or_default()
}
