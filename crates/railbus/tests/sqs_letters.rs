//! Dead letters: with the body as it was, whoever moved them, and handed back once.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sqs_served/queues.rs"]
mod sqs_served;

use railbus::{
    Bus, Event, Retry, Value,
    backend::{Letter, LetterFilter, LetterId},
    delivery::Delivery,
    json,
};
use sqs_served::Queue;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

const WITHIN: Duration = Duration::from_secs(60);

/// Opens a bus whose handler fails until it is told otherwise.
async fn failing(
    queue: &Queue,
    settings: &str,
) -> (Bus, Arc<AtomicBool>, mpsc::UnboundedReceiver<(String, u32)>) {
    let bus = Bus::open(&*queue.bus(settings)).await.unwrap();
    let heals = Arc::<AtomicBool>::default();
    let (says, said) = mpsc::unbounded_channel();
    let healed = Arc::clone(&heals);
    let soon = Duration::from_millis(1);
    bus.on("order.placed")
        .group("billing")
        .named("charge")
        .retry(Retry::attempts(2).backoff_factor(soon).max_backoff(soon))
        .run(move |delivery: Delivery| {
            let event = delivery.event();
            let _ = says.send((event.id().to_owned(), delivery.attempt()));
            if healed.load(SeqCst) { Ok(()) } else { Err("no card \u{ffff}") }
        })
        .await
        .unwrap();
    (bus, heals, said)
}

async fn letters(bus: &Bus) -> Vec<Letter> {
    bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_the_message_as_it_was_with_why_beside_it() {
    let (queue, dead) = Queue::with_dead("letter", 1000);
    let (bus, heals, mut said) = failing(&queue, "").await;
    let event = Event::new("order.placed").id("e-1").payload(json!({"n": 1}));
    let body = String::from_utf8(railbus::codec::encode(&event).unwrap()).unwrap();
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let ten: Value =
        (0..10).map(|n| (format!("a{n}"), text("v"))).collect::<railbus::Map<_, _>>().into();
    queue.put(&body, &ten);
    tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    let found = letters(&bus).await;
    assert_eq!(found.len(), 1);
    let letter = &found[0];
    assert_eq!((&*letter.event_id, &*letter.subscription), ("e-1", "charge"));
    assert_eq!((letter.group.as_deref(), letter.attempts), (Some("billing"), 2));
    assert_eq!(letter.reason, "no card \u{ffff}");
    // Of the same process both tries are known.
    assert_eq!(letter.history.len(), 2);
    assert_eq!(letter.event.as_ref().unwrap().metadata().len(), 9, "one has no room");
    // Looking took nothing away.
    assert_eq!(letters(&bus).await.len(), 1);
    while said.try_recv().is_ok() {}
    heals.store(true, SeqCst);
    let keeper = bus.keeper().unwrap();
    let id = [letter.id.clone(), LetterId::new("no such letter")];
    assert_eq!(keeper.redrive(&id).await.unwrap(), 1);
    assert_eq!(keeper.redrive(&id).await.unwrap(), 0);
    let told = tokio::time::timeout(WITHIN, said.recv()).await.unwrap().unwrap();
    assert_eq!(told, ("e-1".to_owned(), 1), "its tries are counted anew");
    tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    assert_eq!((queue.counts(), dead.counts()), ([0; 3], [0; 3]));
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_letter_is_never_wrapped_however_often_it_fails() {
    let (queue, dead) = Queue::with_dead("unwrapped", 1000);
    let (bus, _heals, _said) = failing(&queue, "").await;
    let event = Event::new("order.placed").payload(1);
    let body = String::from_utf8(railbus::codec::encode(&event).unwrap()).unwrap();
    bus.publish(event).await.unwrap();
    for _ in 0..3 {
        tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
        let found = letters(&bus).await;
        assert_eq!((found.len(), found[0].attempts), (1, 2));
        assert_eq!(bus.keeper().unwrap().redrive(&[found[0].id.clone()]).await.unwrap(), 1);
    }
    tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    bus.close().await.unwrap();
    let [message] = &dead.receive()[..] else { panic!("one letter") };
    assert_eq!(message["Body"], body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sqs_itself_moved_is_a_letter_as_well() {
    let (queue, _dead) = Queue::with_dead("moved", 1);
    let event = Event::new("order.placed").id("e-1").payload(1);
    let body = String::from_utf8(railbus::codec::encode(&event).unwrap()).unwrap();
    queue.put(&body, &json!({}));
    let receive = json!({ "QueueUrl": queue.url, "VisibilityTimeout": 0 });
    for _ in 0..3 {
        sqs_served::ask("ReceiveMessage", &receive);
    }
    let (bus, heals, mut said) = failing(&queue, "").await;
    let found = letters(&bus).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&*found[0].event_id, found[0].group.as_deref()), ("e-1", Some("billing")));
    assert!(found[0].reason.contains("redrive policy"), "{:?}", found[0]);
    heals.store(true, SeqCst);
    assert_eq!(bus.keeper().unwrap().redrive(&[found[0].id.clone()]).await.unwrap(), 1);
    let told = tokio::time::timeout(WITHIN, said.recv()).await.unwrap().unwrap();
    assert_eq!(told.0, "e-1");
    tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    assert!(letters(&bus).await.is_empty());
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_purged_one_by_one_and_go_to_the_queue_that_is_named() {
    let (queue, other) = (Queue::new("named"), Queue::bare("elsewhere"));
    let (bus, _heals, _said) = failing(&queue, &format!("&dlq_url={}", other.url)).await;
    for n in 0..12 {
        bus.publish(Event::new("order.placed").id(format!("e-{n}")).payload(n)).await.unwrap();
    }
    tokio::time::timeout(WITHIN, bus.idle()).await.unwrap().unwrap();
    let found = letters(&bus).await;
    assert_eq!(found.len(), 12);
    let keeper = bus.keeper().unwrap();
    assert_eq!(keeper.purge(&[found[3].id.clone()]).await.unwrap(), 1);
    let filter =
        LetterFilter { event_id: Some(found[3].event_id.clone()), ..LetterFilter::default() };
    assert!(keeper.letters(&filter).await.unwrap().is_empty());
    let left: Vec<_> = letters(&bus).await.into_iter().map(|letter| letter.id).collect();
    assert_eq!(keeper.purge(&left).await.unwrap(), 11);
    assert_eq!(other.counts(), [0; 3]);
    bus.close().await.unwrap();
}
