//! A closure whose argument's type is not said.
use railbus::Bus;

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(|event| println!("{}", event.id()));
}
