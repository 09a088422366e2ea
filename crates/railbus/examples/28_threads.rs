//! Where steps run: here, on pools of threads, and with settings in every form.

use railbus::{
    IntoStep, Pipeline, Retry, StepDef,
    executors::{Inline, Threads},
    json, step,
    step::Input,
    store,
};
use std::{
    collections::HashSet,
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    thread,
    time::Duration,
};

fn id(_: Input<'_>) -> String {
    format!("{:?}", thread::current().id())
}

fn here() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// On a pool with as many threads as there are processors; they are named and live on.
#[step(executor = Threads::default())]
fn concurrent() -> String {
    here()
}

/// Its settings are its defaults; where it is used may say otherwise.
#[step(executor = Threads::new(4).max_tasks_per_child(10).thread_name_prefix("my_event_executor"))]
fn my_step() -> String {
    here()
}

static TRIES: AtomicU32 = AtomicU32::new(0);

#[step(executor = Threads::new(4).max_tasks_per_child(10).thread_name_prefix("my_event_executor"),
       retry = Retry::attempts(3).backoff_factor(Duration::from_millis(1)).on::<io::Error>())]
fn flaky() -> io::Result<String> {
    match TRIES.fetch_add(1, Relaxed) {
        0 | 1 => Err(io::ErrorKind::ConnectionReset.into()),
        _ => Ok(here()),
    }
}

/// Runs a step and returns the name of its thread, without a number.
async fn thread_of(step: StepDef) -> railbus::Result<String> {
    let pipeline = Pipeline::new("p").step(step.named("where")).build()?;
    let name = pipeline.run(store! {}).await.get::<String>("where")?.to_string();
    Ok(name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    println!("{}", thread_of(concurrent()).await?);
    println!("{}", thread_of(my_step()).await?);

    // As a value, and as a map.
    let pool = Threads::new(4).max_tasks_per_child(50).thread_name_prefix("event_executor_");
    println!("{}", thread_of(my_step.executor(pool)).await?);
    let map = json!({
        "kind": "threads",
        "max_workers": 4,
        "max_tasks_per_child": 50,
        "thread_name_prefix": "event_executor_"
    });
    println!("{}", thread_of(my_step.executor(map)).await?);
    println!("{}", !thread_of(my_step.executor(Inline)).await?.starts_with("my_event_executor"));

    let pipeline = Pipeline::new("flaky").step(flaky).build()?;
    println!("{} tries", pipeline.run(store! {}).await.steps()[0].tries);

    // Equal descriptions share a pool, which lives as long as the program.
    let one = || Threads::new(1).thread_name_prefix("one_");

    let ask = |name: &str| StepDef::value(name, id).executor(one());
    let pipeline = Pipeline::new("shared").step(ask("a")).step(ask("b")).build()?;
    let mut threads = HashSet::new();
    for _ in 0..3 {
        let report = pipeline.run(store! {}).await;
        threads.insert(report.get::<String>("a")?.to_string());
        threads.insert(report.get::<String>("b")?.to_string());
    }
    println!("{} thread for 6 tasks", threads.len());

    let slip = my_step.executor(json!({ "kind": "threads", "max_worker": 4 }));
    if let Err(error) = Pipeline::new("slip").step(slip).build() {
        println!("{error}\n  {}", error.advice().unwrap_or_default());
    }
    Ok(())
}
