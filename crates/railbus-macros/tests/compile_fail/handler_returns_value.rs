//! A value that nobody would take.
use railbus::{Bus, Event};

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(|event: &Event| event.id().len());
    let _ = bus.on("order.placed").run(async |_: Event| 1);
    let _ = bus.on("order.placed").run(async |_: Event| Ok::<usize, railbus::Error>(1));
}
