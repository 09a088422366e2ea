//! A payload as it is, where it should be a `Payload` of it.
use railbus::Bus;
use serde::Deserialize;

#[derive(Deserialize)]
struct Order;

async fn charge(order: Order) {
    drop(order);
}

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(charge);
    let _ = bus.on("order.placed").run(|order: Order| drop(order));
    let _ = bus.on("order.placed").run(|order: &Order| drop(order));
}
