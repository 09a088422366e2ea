//! A closure that borrows what won't live as long as the subscription.
use railbus::{Bus, Event};

fn main() {
    let bus = Bus::new();
    let count = std::cell::Cell::new(0);
    let _ = bus.on("order.placed").run(|_: &Event| count.set(count.get() + 1));
}
