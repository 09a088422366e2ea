//! What is told of changes, and what gets lost of it.

use super::{Faulty, Origin};
use railbus::{Bus, Event, Type, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Notify, task::yield_now};

#[railbus::test]
async fn who_tells_of_a_change_gets_the_new_value_before_the_event_has_come_back() {
    let ((faulty, faults), origin) = (Faulty::new(), Origin::new());
    let bus = Bus::over(faulty);
    let bots = origin.registry().open(&bus).await.unwrap();
    assert_eq!(*bots.get("b1").await.unwrap(), 1);
    // What is told is never heard here.
    faults.cut();
    origin.change();
    bots.publish_updated("b1").await.unwrap();
    assert_eq!(*bots.get("b1").await.unwrap(), 2);
}

#[railbus::test]
async fn changes_that_are_dropped_since_a_handler_is_too_slow_are_a_gap() {
    let ((faulty, faults), origin) = (Faulty::new(), Origin::new());
    let (bus, others) = (Bus::over(faulty.connect()), Bus::over(faulty));
    let bots = origin.registry().open(&bus).await.unwrap();
    let (began, opens) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, open) = (Arc::clone(&began), Arc::clone(&opens));
    let slow = async move |_: Event| {
        begins.notify_one();
        open.notified().await;
    };
    bus.on("other").run(slow).await.unwrap();
    let told = |event_type: &str, n: usize| {
        let change = json!({ "instance_id": format!("b{n}") });
        Event::new(event_type).topic("registry:instances").payload(change)
    };
    others.publish(told("other", 0)).await.unwrap();
    began.notified().await;
    assert_eq!(*bots.get("b1").await.unwrap(), 1);
    origin.change();
    for n in (2..1_200).chain([1]) {
        others.publish(told(Type::UPDATED, n)).await.unwrap();
    }
    while faults.handed_out() < 1_200 || bus.gaps() == 0 {
        yield_now().await;
    }
    assert_eq!(*bots.get("b1").await.unwrap(), 2);
    opens.notify_one();
}

#[railbus::test]
async fn a_change_is_heard_of_while_a_handler_of_the_event_before_takes_its_time() {
    let ((faulty, _), origin) = (Faulty::new(), Origin::new());
    let (bus, others) = (Bus::over(faulty.connect()), Bus::over(faulty));
    let bots = origin.registry().open(&bus).await.unwrap();
    let (began, opens) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, open) = (Arc::clone(&began), Arc::clone(&opens));
    let slow = async move |_: Event| {
        begins.notify_one();
        open.notified().await;
    };
    bus.on("other").run(slow).await.unwrap();
    let told = |event_type: &str| {
        let change = json!({ "instance_id": "b1" });
        Event::new(event_type).topic("registry:instances").payload(change)
    };
    others.publish(told("other")).await.unwrap();
    began.notified().await;
    assert_eq!(*bots.get("b1").await.unwrap(), 1);
    origin.change();
    others.publish(told(Type::UPDATED)).await.unwrap();
    let heard = async {
        while !bots.is_empty() {
            yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("it waits for its turn");
    assert_eq!(*bots.get("b1").await.unwrap(), 2);
    opens.notify_one();
}

#[cfg(feature = "sqlite")]
#[railbus::test]
async fn a_change_is_heard_of_while_an_event_that_came_with_it_waits_for_room() {
    let (folder, origin) = (tempfile::tempdir().unwrap(), Origin::new());
    let url = format!("sqlite:{}", folder.path().join("events.db").display());
    let bus = Bus::open(&url).await.unwrap();
    let bots = origin.registry().open(&bus).await.unwrap();
    let opens = Arc::new(tokio::sync::Semaphore::new(0));
    let open = Arc::clone(&opens);
    let slow = async move |_: Event| open.acquire().await.unwrap().forget();
    bus.on("other").run(slow).await.unwrap();
    assert_eq!(*bots.get("b1").await.unwrap(), 1);
    origin.change();
    // One runs and as many wait as do of one topic; the next one finds no room.
    let mut events: Vec<_> = (0..=1_024).map(|n| Event::new("other").payload(n).into()).collect();
    for result in bus.publish_all(&std::mem::take(&mut events)).await {
        result.unwrap();
    }
    let change = Event::new(Type::UPDATED).topic("registry:instances");
    events.push(Event::new("other").payload(0).into());
    events.push(change.payload(json!({ "instance_id": "b1" })).into());
    for result in bus.publish_all(&events).await {
        result.unwrap();
    }
    let heard = async {
        while !bots.is_empty() {
            yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.expect("it waits for its turn");
    assert_eq!(*bots.get("b1").await.unwrap(), 2);
    opens.add_permits(1_026);
    bus.close().await.unwrap();
}
