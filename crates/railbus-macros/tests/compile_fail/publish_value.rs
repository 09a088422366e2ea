//! What is no event.
use railbus::{Bus, json};

struct OrderPlaced;

fn main() {
    let bus = Bus::new();
    let _ = bus.emit(OrderPlaced);
    let _ = bus.emit("order.placed");
    let _ = bus.emit(json!({ "type": "order.placed" }));
}
