//! A sync closure that makes a future and lets go of it, since it borrows the event.
use railbus::{Bus, Event};

fn main() {
    let (bus, other) = (Bus::new(), Bus::new());
    let _ = bus.on("order.placed").run(|event: &Event| other.publish(event.clone()));
}
