//! Open a bus, subscribe, publish, close.

use railbus::{Bus, Event, Payload, Type, Value, json, topic};

async fn on_event(event: Event, payload: Payload<Value>) {
    println!("Received {} on {}", event.event_type(), event.topic());
    println!("Payload: {payload}");
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::open("memory:").await?;
    let subscription = bus.on(topic("my-topic")).run(on_event).await?;
    let hello = json!({ "message": "Hello, World!" });
    bus.publish(Event::new(Type::CREATED).topic("my-topic").payload(hello)).await?;
    subscription.cancel();
    bus.close().await
}
