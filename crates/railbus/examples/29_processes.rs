//! Steps in worker processes of the program's own: computed elsewhere, and what dies there fails
//! alone.

use railbus::{IntoStep, Pipeline, Steps, executors::Processes, json, parallel, step, store};
use std::process;

#[step(executor = Processes::default())]
fn cpu_intensive(data: &[f64]) -> Vec<f64> {
    data.iter().map(|x| x.sqrt()).collect()
}

#[step]
fn elsewhere() -> u32 {
    process::id()
}

#[step(executor = Processes::new(1))]
fn abort() {
    process::abort()
}

/// The program is its own worker, and knows these steps there.
#[railbus::main(steps = Steps::new().add(cpu_intensive).add(elsewhere).add(abort))]
async fn main() -> railbus::Result<()> {
    let roots = Pipeline::new("roots").step(cpu_intensive).build()?;
    let report = roots.run(store! { "data" => vec![4.0, 9.0] }).await;
    println!("{:?}", report.get::<Vec<f64>>("cpu_intensive")?);

    // As a map; and where it ran.
    let map = json!({ "kind": "processes", "max_workers": 2, "max_tasks_per_child": 50 });
    let there = Pipeline::new("there").step(elsewhere.executor(map)).build()?;
    let report = there.run(store! {}).await;
    println!("in this process: {}", *report.get::<u32>("elsewhere")? == process::id());

    // Whoever dies fails alone.
    let both = Pipeline::new("both").step(parallel((cpu_intensive, abort))).build()?;
    let report = both.run(store! { "data" => vec![16.0] }).await;
    for step in report.steps() {
        println!("{}: {}", step.name, step.status);
    }
    let report = roots.run(store! { "data" => vec![25.0] }).await;
    println!("{:?}", report.get::<Vec<f64>>("cpu_intensive")?);
    Ok(())
}
