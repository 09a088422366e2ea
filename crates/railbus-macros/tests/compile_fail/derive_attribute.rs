//! What may be wrong with `#[event(..)]`.
use railbus::{Bus, Event};
use serde::Serialize;

#[derive(Serialize, Event)]
struct OrderPlaced;

#[derive(Serialize, Event)]
#[event]
struct Bare;

#[derive(Serialize, Event)]
#[event()]
struct EmptyList;

#[derive(Serialize, Event)]
#[event = "order.placed"]
struct Assigned;

#[derive(Serialize, Event)]
#[event("")]
struct EmptyType;

#[derive(Serialize, Event)]
#[event("orders:placed")]
struct LikeATopic;

#[derive(Serialize, Event)]
#[event("order.*")]
struct LikeAPattern;

#[derive(Serialize, Event)]
#[event("order.placed")]
#[event("order.sent")]
struct Twice;

#[derive(Serialize, Event)]
#[event(topic = "orders")]
struct TopicFirst;

#[derive(Serialize, Event)]
#[event("order.placed", topics = "orders")]
struct NearKey;

#[derive(Serialize, Event)]
#[event("order.placed", colour = "red")]
struct UnknownKey;

#[derive(Serialize, Event)]
#[event("order.placed", topic = "a", topic = "b")]
struct KeyTwice;

#[derive(Serialize, Event)]
#[event("order.placed", version = 2)]
struct NoText;

#[derive(Serialize, Event)]
#[event("order.placed", source = "")]
struct EmptyText;

fn main() {
    // What uses a type with a mistake is not blamed for it.
    let bus = Bus::new();
    let _ = bus.on(OrderPlaced::TYPE).run(|event: &Event| println!("{event:?}"));
    let _ = bus.emit(OrderPlaced);
    let _ = bus.emit(Twice.into_draft());
}
