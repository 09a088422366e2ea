//! What selects no events.
use railbus::{Bus, Event};

fn main() {
    let bus = Bus::new();
    let _ = bus.on(7);
    let _ = bus.on(|event: Event| event.id() == "a");
}
