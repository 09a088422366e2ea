//! What can't be the payload of an event.
use railbus::Event;
use serde::Serialize;

#[derive(Serialize, Event)]
#[event("order.placed")]
struct Generic<T> {
    order: T,
}

#[derive(Serialize, Event)]
#[event("order.placed")]
struct Borrowed<'a> {
    order: &'a str,
}

#[derive(Event)]
#[event("order.placed")]
union Either {
    a: u8,
    b: u8,
}

#[derive(Serialize, Event)]
enum Each {
    #[event("order.placed")]
    Placed,
    #[event("order.sent")]
    Sent,
}

#[derive(Event)]
#[event("order.placed")]
struct NotSerialize;

fn main() {}
