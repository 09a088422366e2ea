//! A payload that can't be decoded.
use railbus::{Bus, Payload};

struct Order;

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(|order: Payload<Order>| drop(order));
}
