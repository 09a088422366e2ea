//! Several subscribers to one topic: each gets the event, in the order they subscribed.

use railbus::{Bus, Event, Payload, Type, Value, json, topic};

async fn logger(event: Event, payload: Payload<Value>) {
    println!("LOG: {} - {payload}", event.event_type());
}

async fn metrics(event: Event) {
    println!("METRICS: {}", event.topic());
}

async fn notifier(_: Event) {
    println!("NOTIFY");
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.on(topic("registry:bots")).run(logger).await?;
    bus.on(topic("registry:bots")).run(metrics).await?;
    bus.on(topic("registry:bots")).run(notifier).await?;
    let bot = json!({ "bot_id": "b1" });
    bus.publish(Event::new(Type::UPDATED).topic("registry:bots").payload(bot)).await?;
    Ok(())
}
