//! What the crate exports at its root, and all that a bus does.

use railbus::{
    Backend, Bus, Event, EventBuilder, Options, Report, Subscription, SubscriptionId, Type, topic,
};
use std::time::Duration;

async fn protocol(options: Options) -> railbus::Result<()> {
    let bus = Bus::open(options).await?;
    let tell = |event: &Event| println!("{} on {}", event.event_type(), event.topic());
    let subscription: Subscription = bus.on(topic("registry:*")).run(tell).await?;

    let created: EventBuilder = Event::new(Type::CREATED).topic("registry:bots");
    let report: Report = bus.publish(created).await?;
    println!("{} matched, {} failed", report.matched, report.failures.len());
    bus.emit(Event::new(Type::DELETED).topic("registry:bots"))?;

    let id: SubscriptionId = subscription.id();
    println!("unsubscribed: {}, then {}", bus.unsubscribe(id), bus.unsubscribe(id));
    bus.close_within(Duration::from_secs(5)).await
}

/// What others implement; `Bus::open` finds it by the scheme of the URL.
fn describe(_: &dyn Backend) {}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let _: fn(&dyn Backend) = describe;
    protocol(Options::parse("memory:")?).await
}
