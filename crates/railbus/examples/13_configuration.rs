//! One program, any backend: from a URL, a map, or the environment.

use railbus::{Bus, Event, json};

/// The program: it knows nothing of backends.
async fn program(bus: Bus) -> railbus::Result<()> {
    let heard = bus.on("order.placed").run(|e: &Event| println!("heard {}", e.event_type()));
    heard.await?;
    bus.publish(Event::new("order.placed").payload(json!({ "id": "A-1" }))).await?;
    bus.idle().await?;
    bus.close().await
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    program(Bus::open("memory:?wire=always").await?).await?;
    program(Bus::open(json!({ "backend": "memory" })).await?).await?;

    for mistake in [
        json!({ "backend": "memroy" }),
        json!({ "backend": "memory", "wier": "always" }),
        json!({ "url": "memory:?wire=sometimes" }),
        json!({ "wire": "always" }),
    ] {
        if let Err(error) = Bus::open(mistake).await {
            println!("{error}\n  {}", error.advice().unwrap_or_default());
        }
    }
    Ok(())
}
