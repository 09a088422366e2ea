//! Groups of many subscriptions: only those that may want an event are asked about it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, Predicate, event_type, topic};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// How often predicates asked a closure of theirs, and how often handlers ran.
#[derive(Clone, Default)]
struct Counts {
    asked: Arc<AtomicUsize>,
    handled: Arc<AtomicUsize>,
}

impl Counts {
    /// A closure before a predicate, so that whoever asks the whole asks the closure first.
    fn before(&self, predicate: Predicate) -> Predicate {
        let asked = Arc::clone(&self.asked);
        let asks = move |_: &Event| asked.fetch_add(1, SeqCst) < usize::MAX;
        Predicate::from(asks) & predicate
    }

    fn handler(&self) -> impl Fn(&Event) + Clone + Send + Sync + 'static {
        let handled = Arc::clone(&self.handled);
        move |_: &Event| {
            handled.fetch_add(1, SeqCst);
        }
    }

    fn take(&self) -> (usize, usize) {
        (self.asked.swap(0, SeqCst), self.handled.swap(0, SeqCst))
    }
}

/// Returns what one event costs that one of so many subscriptions of two groups wants.
async fn asked_of(subscriptions: usize, of: impl Fn(usize) -> Predicate, event: Event) -> usize {
    let (bus, counts) = (Bus::open("memory:").await.unwrap(), Counts::default());
    let on = |n: usize| {
        let group = if n.is_multiple_of(2) { "even" } else { "odd" };
        bus.on(counts.before(of(n))).group(group).run(counts.handler())
    };
    bus.open_all((0..subscriptions).map(on).collect::<Vec<_>>()).await.unwrap();
    counts.take();
    assert_eq!(bus.publish(event).await.unwrap().matched, 1);
    bus.idle().await.unwrap();
    let (asked, handled) = counts.take();
    assert_eq!(handled, 1);
    bus.close().await.unwrap();
    asked
}

#[railbus::test]
async fn publishing_asks_no_more_subscriptions_of_groups_the_more_there_are() {
    let by_type = |n: usize| event_type(&format!("order.{n}"));
    let by_topic = |n: usize| topic(&format!("shop:{n}:*"));
    for (of, event) in [
        (&by_type as &dyn Fn(usize) -> Predicate, Event::new("order.7").payload(1)),
        (&by_topic, Event::new("order").topic("shop:7:till").payload(1)),
    ] {
        let few = asked_of(10, of, event.clone()).await;
        let many = asked_of(1000, of, event).await;
        assert_eq!(few, many, "a hundred times as many subscriptions make no difference");
    }
}

#[railbus::test]
async fn what_is_found_in_a_group_of_many_is_what_wants_the_event_in_the_order_it_runs() {
    let (bus, order) = (Bus::open("memory:").await.unwrap(), Arc::default());
    let on = |which: Predicate, group: &str, priority: i32, name: &'static str| {
        let order: Arc<std::sync::Mutex<Vec<_>>> = Arc::clone(&order);
        let runs = move |_: &Event| order.lock().unwrap().push(name);
        bus.on(which).group(group).priority(priority).named(name).run(runs)
    };
    let others = (0..50).map(|n| {
        let other = event_type(&format!("other.{n}"));
        bus.on(other).group("g").run(|_: &Event| panic!("nobody published that"))
    });
    let mut all: Vec<_> = others.collect();
    all.push(on(topic("shop:*"), "g", 1, "catch-all"));
    all.push(on(event_type("order.placed") | topic("shop:a"), "g", 1, "typed"));
    all.push(on(event_type("*.placed"), "g", 0, "first"));
    all.push(on(!event_type("order.placed"), "g", 0, "not that"));
    let gone = on(event_type("order.placed"), "g", 0, "cancelled").await.unwrap();
    bus.open_all(all).await.unwrap();
    gone.cancel();
    let placed = Event::new("order.placed").topic("shop:a").payload(1);
    assert_eq!(bus.publish(placed.clone()).await.unwrap().matched, 3);
    bus.idle().await.unwrap();
    assert_eq!(*order.lock().unwrap(), ["first", "typed", "catch-all"]);
    assert!(bus.wants("order.placed") && bus.wants("other.49") && bus.wants("anything"));
    let same = bus.on("order.placed").group("g").named("typed").run(|_: &Event| {}).await;
    assert!(same.is_err(), "a name is there once in a group");
    bus.on("order.placed").group("h").named("typed").run(|_: &Event| {}).await.unwrap();
    assert_eq!(bus.publish(placed).await.unwrap().matched, 4);
    bus.close().await.unwrap();
}
