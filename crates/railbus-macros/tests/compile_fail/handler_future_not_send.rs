//! A future that stays on its thread.
use railbus::{Bus, Event};
use std::{future::ready, rc::Rc};

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(async |event: Event| {
        let id = Rc::new(event.id().to_owned());
        ready(()).await;
        println!("{id}");
    });
}
