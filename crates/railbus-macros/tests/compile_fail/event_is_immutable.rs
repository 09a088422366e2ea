//! An event is what happened: nobody changes it afterwards.
use railbus::{Event, Value, json};

fn main() {
    let mut event = Event::new("order.placed").topic("shop").payload(json!({"lines": 2}));
    event.event_type() = "order.cancelled";
    event.metadata().insert("tenant".into(), "north".into());
    *event.raw_payload().value().unwrap() = Value::Null;
    event.topic = "other";
    event.topic("other");
}
