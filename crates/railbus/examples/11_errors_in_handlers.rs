//! Handlers that fail: by hand, and the short way.

use railbus::{Bus, Event, Type, json, topic};

async fn process(event: &Event) -> Result<(), std::io::Error> {
    Err(std::io::Error::other(format!("{} is broken", event.event_type())))
}

/// Sees to its errors itself. The bus comes as an argument: a captured one would keep itself alive.
async fn safe_handler(event: Event, bus: Bus) -> railbus::Result<()> {
    if let Err(error) = process(&event).await {
        eprintln!("could not process {}: {error}", event.id());
        let payload = json!({ "original_event_id": event.id(), "error": error.to_string() });
        bus.publish(Event::new(Type::ERROR).topic("errors").payload(payload)).await?;
    }
    Ok(())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.on(topic("errors"))
        .run(|e: &Event| println!("errors: {}", e.get("error").unwrap_or("?")))
        .await?;
    bus.on("order.placed").run(safe_handler).await?;

    // The short way: return the error. The bus counts it, logs it and tells of it.
    bus.on("order.sent").run(async |event: Event| process(&event).await).await?;
    bus.on(Type::HANDLER_ERROR)
        .run(|e: &Event| println!("{}: {}", e.event_type(), e.get("error").unwrap_or("?")))
        .await?;

    bus.publish(Event::new("order.placed")).await?;
    let report = bus.publish(Event::new("order.sent")).await?;
    println!("{} of {} failed", report.failures.len(), report.matched);
    Ok(())
}
