//! Middleware: hooks around each try, a group with a limit, and retries that the policy makes.

use railbus::{
    BoxError, Bus, Event, Retry,
    delivery::{Delivery, Outcome},
    middlewares::{Hooks, Timeout},
};
use std::time::Duration;

struct Logging;

#[async_trait::async_trait]
impl Hooks for Logging {
    async fn before(&self, delivery: &Delivery) -> Result<(), BoxError> {
        println!("Processing event: {}", delivery.event_type());
        Ok(())
    }

    async fn after(&self, delivery: &Delivery, _outcome: &Outcome) {
        println!("Completed event: {}", delivery.event_type());
    }

    async fn on_error(&self, delivery: &Delivery, error: &BoxError) {
        println!("Error processing {}: {error}", delivery.event_type());
    }
}

async fn user_events(delivery: Delivery) -> Result<(), &'static str> {
    match (delivery.event_type(), delivery.attempt()) {
        ("user.updated", 1) => Err("the database is busy"),
        (event_type, attempt) => {
            println!("{event_type} at try {attempt}");
            Ok(())
        }
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::open("memory:").await?;
    // What midil's document calls a group middleware is a group, and a limit of what is fetched. Its
    // retry middleware is the subscription's policy, wherever it stands.
    bus.on(["user.created", "user.updated", "user.deleted"])
        .group("user-service")
        .limit(5)
        .layer(Logging)
        .layer(
            Retry::attempts(3)
                .backoff(Duration::from_millis(10))
                .max_backoff(Duration::from_secs(30)),
        )
        .layer(Timeout::new(Duration::from_secs(10)))
        .run(user_events)
        .await?;
    for event_type in ["user.created", "user.updated"] {
        bus.publish(Event::new(event_type)).await?;
        bus.idle().await?;
    }
    Ok(())
}
