//! Structs and functions that want several types.

use railbus::{
    AsyncHandler, BoxError, Bus, Consumer, ErrorKind, Event, Predicate, Retry, Subscriber, bus::On,
    delivery::Delivery, event_type, source_is, topic,
};
use std::sync::{Arc, Mutex};

/// Remembers what it handled, and refuses what it is told to.
#[derive(Default)]
struct Users {
    seen: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl Subscriber for Users {
    fn interest(&self) -> Predicate {
        ["user.created", "user.updated", "user.deleted"].into()
    }

    fn can_handle(&self, event: &Event) -> bool {
        event.source() != "test"
    }

    async fn handle(&self, delivery: &Delivery) -> Result<(), BoxError> {
        let told = format!("{} {}", delivery.event_type(), delivery.payload::<u32>()?);
        self.seen.lock().unwrap().push(told);
        Ok(())
    }
}

#[railbus::test]
async fn a_struct_gets_each_of_its_types_and_nothing_else() {
    let (bus, users) = (Bus::new(), Arc::new(Users::default()));
    let subscription = bus.subscribe(Arc::clone(&users)).await.unwrap();
    assert!(subscription.predicate().is_typed());
    for (number, event_type) in ["user.created", "user.seen", "user.deleted"].iter().enumerate() {
        bus.publish(Event::new(*event_type).payload(number)).await.unwrap();
    }
    let skipped = Event::new("user.updated").source("test").payload(9);
    assert_eq!(bus.publish(skipped).await.unwrap().matched, 0);
    let failed = bus.publish(Event::new("user.updated").payload("no number")).await.unwrap();
    assert_eq!(failed.failures.len(), 1, "a failure is seen");
    assert_eq!(*users.seen.lock().unwrap(), ["user.created 0", "user.deleted 2"]);
}

/// Says itself on which terms.
struct Own;

#[async_trait::async_trait]
impl Subscriber for Own {
    fn interest(&self) -> Predicate {
        ["a", "b"].into()
    }

    fn terms(&self, on: On) -> On {
        on.group("own").named("it").retry(Retry::attempts(7)).limit(2)
    }

    async fn handle(&self, _: &Delivery) -> Result<(), BoxError> {
        Ok(())
    }
}

#[railbus::test]
async fn a_subscriber_says_its_own_terms_and_is_a_handler_without_them() {
    let bus = Bus::open("memory:").await.unwrap();
    let subscription = bus.subscribe(Own).await.unwrap();
    assert_eq!((subscription.group(), subscription.name()), (Some("own"), "it"));
    assert!(subscription.explain().to_string().contains("try 7, then DeadLetter"));
    let plain = bus.on("c").run(Own).await.unwrap();
    assert_eq!((plain.group(), plain.predicate().to_string()), (None, "type c".to_owned()));
    let consumer = Consumer::open("memory:?group=workers").await.unwrap();
    let of_consumer = consumer.subscribe(Arc::new(Users::default())).await.unwrap();
    assert_eq!(of_consumer.group(), Some("workers"));
    consumer.start().await.unwrap();
    consumer.bus().publish(Event::new("user.created").payload(1)).await.unwrap();
    consumer.bus().idle().await.unwrap();
    assert_eq!(consumer.bus().counters().succeeded.get(), 1);
}

#[railbus::test]
async fn a_function_takes_several_types() {
    let (bus, seen) = (Bus::new(), Arc::new(Mutex::new(Vec::<String>::new())));
    async fn orders(event: Event, seen: railbus::State<Arc<Mutex<Vec<String>>>>) {
        seen.lock().unwrap().push(match event.event_type() {
            "order.placed" => "process".to_owned(),
            other => format!("cancel {other}"),
        });
    }
    let bus = bus.state(Arc::clone(&seen));
    bus.on(["order.placed", "order.cancelled"]).run(orders).await.unwrap();
    for event_type in ["order.placed", "order.cancelled", "order.sent"] {
        bus.publish(Event::new(event_type)).await.unwrap();
    }
    assert_eq!(*seen.lock().unwrap(), ["process", "cancel order.cancelled"]);
}

#[test]
fn several_types_are_as_if_joined_by_or() {
    let several = Predicate::from(["a", "b.*"]);
    assert_eq!(several.to_string(), (event_type("a") | event_type("b.*")).to_string());
    let rest = several & source_is("web") & topic("t");
    assert!(rest.matches(&Event::new("b.c").source("web").topic("t").payload(1)));
}

#[railbus::test]
async fn no_types_at_all_and_a_topic_among_types_are_refused() {
    let bus = Bus::new();
    let none: [&str; 0] = [];
    for (predicate, hint) in
        [(Predicate::from(none), "an event has one type"), (["a", "b:c"].into(), "topic(\"b:c\")")]
    {
        let refused = bus.on(predicate).run(|_: &Event| {}).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config);
        assert!(refused.advice().unwrap().contains(hint), "{refused:?}");
    }
}

/// A struct that is a handler the older way is none of these.
struct Plain;

#[async_trait::async_trait]
impl AsyncHandler for Plain {
    async fn handle(&self, _: &Event) -> Result<(), BoxError> {
        Ok(())
    }
}

#[railbus::test]
async fn the_kinds_of_structs_go_side_by_side() {
    let bus = Bus::new();
    bus.on("a").run(Plain).await.unwrap();
    bus.subscribe(Own).await.unwrap();
    bus.on("a").run(Own).await.unwrap();
    assert_eq!(bus.publish(Event::new("a")).await.unwrap().matched, 3, "one is in a group");
}
