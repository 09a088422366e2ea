//! One argument too many.
use railbus::{Bus, Context, Event, Payload, State, Value};

fn main() {
    let bus = Bus::new();
    let _ = bus.on("order.placed").run(
        |_: Event, _: Payload<Value>, _: State<u8>, _: State<u16>, _: Context| (),
    );
}
