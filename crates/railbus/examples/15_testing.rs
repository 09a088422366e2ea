//! How a program's own tests look: the test kit, and steps called alone. `main` runs what
//! `cargo test` would.

use railbus::{
    Event, Pipeline, Status, Type, json, step, store,
    testing::{self, Recorder},
    topic,
};

#[step]
fn price(count: u32) -> Result<u32, railbus::Failure> {
    match count {
        0 => Err(railbus::Failure::new("nothing to buy")),
        count => Ok(count * 3),
    }
}

/// With `#[railbus::test]` in place of being called by `main`.
async fn publish_subscribe() -> railbus::Result<()> {
    let bus = testing::bus().await?;
    let received = Recorder::new();
    bus.on(topic("test")).run(received.clone()).await?;
    let event = Event::new(Type::CREATED).topic("test").payload(json!({ "key": "value" }));
    bus.publish(event).await?;

    let events = received.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].get("key"), Some("value"));
    bus.close().await
}

/// A function with `#[step]` is called alone with `call`.
fn a_step_alone() {
    assert_eq!(price::call(2).ok(), Some(6));
    assert!(price::call(0).is_err());
}

/// A pipeline runs without a bus, and its report says what became of each step.
async fn a_pipeline_without_a_bus() -> railbus::Result<()> {
    let pipeline = Pipeline::new("shop").step(price).build()?;
    let report = pipeline.run(store! { "count" => 0u32 }).await;
    assert_eq!(report.status(), Status::Failure);
    assert_eq!(report.steps()[0].error.as_deref(), Some("nothing to buy"));
    Ok(())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    publish_subscribe().await?;
    println!("publish_subscribe: ok");
    a_step_alone();
    println!("a_step_alone: ok");
    a_pipeline_without_a_bus().await?;
    println!("a_pipeline_without_a_bus: ok");
    Ok(())
}
