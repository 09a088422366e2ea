//! Subscribers with several types: a struct that says what it wants, and a function.

use railbus::{
    BoxError, Bus, Event, Payload, Predicate, Subscriber, Value, delivery::Delivery, json,
};

struct UserEvents;

#[async_trait::async_trait]
impl Subscriber for UserEvents {
    fn interest(&self) -> Predicate {
        ["user.created", "user.updated", "user.deleted"].into()
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), BoxError> {
        let user: Value = delivery.payload()?;
        match delivery.event_type() {
            "user.created" => println!("User created: {user}"),
            "user.updated" => println!("User updated: {user}"),
            _ => println!("User deleted: {user}"),
        }
        Ok(())
    }
}

async fn order_events(event: Event, order: Payload<Value>) {
    match event.event_type() {
        "order.placed" => println!("processing order {order}"),
        _ => println!("cancelling order {order}"),
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.subscribe(UserEvents).await?;
    bus.on(["order.placed", "order.cancelled"]).run(order_events).await?;
    for event_type in
        ["user.created", "user.deleted", "user.seen", "order.placed", "order.cancelled"]
    {
        let report = bus.publish((event_type, json!({ "id": "123" }))).await?;
        if report.matched == 0 {
            println!("nobody wants {event_type}");
        }
    }
    Ok(())
}
