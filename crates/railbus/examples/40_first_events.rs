//! The bus, as midil's document begins with it: subscribe to types, publish, and it was handled.

use railbus::{Bus, Payload, Value, json};

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let bus = Bus::new();
    bus.on("user.created").run(|user: Payload<Value>| println!("User created: {user}")).await?;
    bus.on("order.placed").run(|order: Payload<Value>| println!("Order placed: {order}")).await?;

    let user = json!({ "user_id": "123", "email": "john@example.com" });
    let report = bus.publish(("user.created", user)).await?;
    println!("{} subscription wanted it", report.matched);
    Ok(())
}
