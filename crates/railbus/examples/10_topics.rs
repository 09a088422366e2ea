//! Topics and patterns over them: `*` crosses `:`.

use railbus::{Bus, Event, Type, topic};

fn show(event: &Event) {
    println!("{}", event.topic());
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.on(topic("registry:*")).run(show).await?;
    for t in ["registry:bots", "registry:bots:config", "knowledge:my-domain", "knowledge:ingestion"]
    {
        bus.publish(Event::new(Type::UPDATED).topic(t)).await?;
    }
    // A bare text is a type, and types have no colons.
    if let Err(mistake) = bus.on("registry:bots").run(show).await {
        println!("{mistake}\n{}", mistake.advice().unwrap_or_default());
    }
    Ok(())
}
