//! What is the same is handled once, and no more is fetched than a rate lets through: here in this process,
//! on a backend that stores for a whole fleet.

use railbus::{
    Bus, Event, Retry,
    delivery::Delivery,
    json,
    middlewares::{Dedup, RateLimit},
};
use std::time::Duration;

async fn charge(delivery: Delivery) -> Result<(), &'static str> {
    let order = delivery.get::<&str>("order").unwrap_or("?");
    if delivery.attempt() == 1 && order == "o-2" {
        println!("{order}: the bank does not answer");
        return Err("not now"); // it is not taken for done
    }
    println!("{order}: charged");
    Ok(())
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::open("memory:").await?;
    let once = Dedup::new().by_path("order").window(Duration::from_secs(3600)).shared();
    let few = RateLimit::per_second(100.0).burst(1).shared("bank");
    bus.on("order.placed")
        .group("billing")
        .named("charge") // whose keys they are, for all members
        .limit(1)
        .retry(Retry::attempts(3).backoff(Duration::from_millis(5)))
        .layer(few)
        .layer(once)
        .run(charge)
        .await?;
    for order in ["o-1", "o-1", "o-2", "o-1", "o-2"] {
        bus.publish(Event::new("order.placed").payload(json!({ "order": order }))).await?;
    }
    bus.idle().await?;
    println!("{} events were handled", bus.counters().succeeded.get());
    Ok(())
}
