//! A program that runs until it is told to stop, and finishes what it began.

use railbus::{Bus, Event, shutdown};
use std::{process::Command, time::Duration};

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let mut signals = shutdown::Signals::listen()?;
    let bus = Bus::new();
    bus.on("order.*")
        .run(async |event: Event| {
            println!("began {}", event.event_type());
            // Somebody stops the program in the middle of it.
            let stopped = Command::new("kill").arg(std::process::id().to_string()).status()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            println!("finished {}", event.event_type());
            assert!(stopped.success());
            railbus::done()
        })
        .await?;

    let publisher = bus.clone();
    tokio::spawn(async move { publisher.publish(Event::new("order.placed")).await });
    println!("stopped by {}", signals.next().await);
    bus.close().await?; // waits for the handler
    println!("closed");
    let Err(refused) = bus.publish(Event::new("order.placed")).await else { return Ok(()) };
    println!("{refused}");
    Ok(())
}
