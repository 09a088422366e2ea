//! An async closure that borrows the event.
use railbus::{Bus, Event};

async fn log(event: &Event) {
    println!("{}", event.id());
}

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(async |event: &Event| println!("{}", event.id()));
    let _ = bus.on("order.placed").run(log);
}
