//! A pipeline that tells a bus what happens, and what an error looks like there.

use railbus::{Bus, Event, Pipeline, Status, StepResult, Store, Type, any, step};

#[step(name = "Load", output = "data")]
fn load() -> Vec<i64> {
    vec![1, 2, 3]
}

#[step(name = "Sum", output = "sum")]
fn sum(data: &[i64]) -> i64 {
    data.iter().sum()
}

#[step(name = "Boom")]
fn boom() -> StepResult {
    Err("Boom!".into())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.on(any()).priority(0).run(|e: &Event| println!("[GLOBAL] -> {}", e.source())).await?;
    for of in [Type::PIPELINE_START, Type::PIPELINE_END, Type::STEP_START, Type::STEP_END] {
        bus.on(of).run(|e: &Event| println!("[{}] -> {}", e.event_type(), e.source())).await?;
    }

    println!("=== ObservablePipeline Demo ===");
    let demo = Pipeline::new("Demo").step(load).step(sum).observe(&bus).build()?;
    let report = demo.run(Store::new()).await;
    println!("\nFinal STATE: {}", report.store().to_json()?);

    let tell = |e: &Event| println!("[ERROR] -> {}", e.get("error").unwrap_or("?"));
    bus.on(Type::STEP_ERROR).run(tell).await?;
    let failing = Pipeline::new("ErrDemo").step(boom).observe(&bus).build()?;
    assert_eq!(failing.run(Store::new()).await.status(), Status::Exception);
    bus.close().await
}
