//! Subscriptions: what they say of themselves, and how they end.

use railbus::{Bus, Event, topic};

fn handler(_: &Event) {}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    let subscription = bus.on(topic("registry:*")).run(handler).await?;
    println!(
        "{} {:?} {:?} {}",
        subscription.id(),
        subscription.topic(),
        subscription.pattern(),
        subscription.created_at()
    );
    println!("{}", subscription.explain());
    subscription.cancel(); // not async; again is fine; so is inside the handler
    println!("still there: {}", bus.unsubscribe(subscription.id()));
    {
        let _guard = bus.on(topic("registry:*")).run(handler).await?.guard(); // ends with the block
        println!("matched: {}", bus.publish(Event::new("x").topic("registry:bots")).await?.matched);
    }
    println!("matched: {}", bus.publish(Event::new("x").topic("registry:bots")).await?.matched);
    Ok(())
}
