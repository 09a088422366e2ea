//! A struct that handles nothing, and a value that is none.
use railbus::Bus;

struct Monitor;

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(Monitor);
    let _ = bus.on("order.placed").run(println!("placed"));
}
