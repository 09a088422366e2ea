//! A closure whose argument's type is not said, and not used either.
use railbus::Bus;

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(|_| println!("placed"));
}
