//! `#[railbus::main(steps = ..)]`: the program is started again as a worker, without its `main`.
#![allow(clippy::unwrap_used)]

use railbus::{Pipeline, Result, Steps, executors::Processes, step, store};
use std::process::id;

#[step(executor = Processes::new(1))]
fn pid() -> u32 {
    id()
}

#[railbus::main(steps = Steps::new().add(pid), worker_threads = 2)]
async fn main() -> Result<()> {
    let report = Pipeline::new("p").step(pid).build()?.run(store! {}).await;
    let worker = *report.get::<u32>("pid")?;
    assert_ne!(worker, id());
    // Had the worker come this far, it would have started one of its own.
    let children = std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children"));
    assert_eq!(children.unwrap_or_default(), "");
    Ok(())
}
