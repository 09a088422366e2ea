//! What travels in a queue: events, and whatever else is put into it.
#![cfg(feature = "sqs")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "sqs_served/queues.rs"]
mod sqs_served;

use railbus::{Bus, ErrorKind, Event, Retry, Value, backend::LetterFilter, json};
use sqs_served::{Queue, ask};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::mpsc;

type Seen = mpsc::UnboundedReceiver<Event>;

/// Hears what comes to a group of that bus.
async fn heard(bus: &Bus) -> Seen {
    let (says, said) = mpsc::unbounded_channel();
    bus.on(railbus::any())
        .group("g")
        .named("reader")
        .retry(Retry::attempts(1))
        .run(move |event: &Event| drop(says.send(event.clone())))
        .await
        .unwrap();
    said
}

async fn next(said: &mut Seen) -> Event {
    tokio::time::timeout(Duration::from_secs(30), said.recv()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_a_cloud_event_with_few_attributes_beside_it() {
    let queue = Queue::new("written");
    let bus = Bus::open(&*queue.bus("&message_attributes=tenant,absent,empty")).await.unwrap();
    let event = Event::new("order.placed")
        .topic("shop")
        .id("e-1")
        .metadata("tenant", "acme")
        .metadata("secret", "no")
        .metadata("empty", "")
        .metadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .payload(json!({"odd": "\u{fffe}\u{ffff}\u{1}"}));
    bus.publish(event.clone()).await.unwrap();
    let [message] = &queue.receive()[..] else { panic!("one message") };
    let attributes = message["MessageAttributes"].as_object().unwrap();
    let mut names: Vec<_> = attributes.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["tenant", "topic", "traceparent", "type"]);
    assert_eq!(attributes["tenant"]["StringValue"], "acme");
    let body: Value = message["Body"].as_str().unwrap().parse().unwrap();
    assert_eq!((&body["id"], &body["type"]), (&json!("e-1"), &json!("order.placed")));
    assert_eq!(body["data"]["odd"], "\u{fffe}\u{ffff}\u{1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_others_become_metadata_and_take_nothing_from_the_event() {
    let queue = Queue::new("read");
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let event = Event::new("order.placed").id("e-1").metadata("tenant", "acme").payload(1);
    let body = String::from_utf8(railbus::codec::encode(&event).unwrap()).unwrap();
    let attributes = json!({
        "tenant": text("other"), "type": text("not.this"), "id": text("e-2"), "shop": text("north"),
        "count": { "DataType": "Number", "StringValue": "7" },
        "blob": { "DataType": "Binary", "BinaryValue": "AQI=" },
    });
    queue.put(&body, &attributes);
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let mut said = heard(&bus).await;
    let came = next(&mut said).await;
    assert_eq!((came.event_type(), came.id()), ("order.placed", "e-1"));
    let metadata: Vec<_> = came.metadata().iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(metadata, [("blob", "AQI="), ("count", "7"), ("shop", "north"), ("tenant", "acme")]);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_messages_of_others_are_events_as_well() {
    let queue = Queue::new("plain");
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    queue.put(
        "{\"n\": 7}",
        &json!({ "type": text("lamp.on"), "topic": text("lights"), "room": text("2") }),
    );
    queue.put("[1]", &json!({}));
    queue.put("7", &json!({}));
    let bus = Bus::open(&*queue.bus("&format=plain")).await.unwrap();
    bus.publish(Event::new("order.placed").topic("shop").id("e-1").payload("text")).await.unwrap();
    let mut said = heard(&bus).await;
    let mut came = Vec::new();
    for _ in 0..4 {
        came.push(next(&mut said).await);
    }
    let of = |event_type: &str| came.iter().find(|event| event.event_type() == event_type).unwrap();
    let lamp = of("lamp.on");
    assert_eq!((lamp.topic(), lamp.get("n"), &*lamp.metadata()["room"]), ("lights", Some(7), "2"));
    let ours = of("order.placed");
    assert_eq!(
        (ours.topic(), ours.id(), &*ours.payload::<String>().unwrap()),
        ("shop", "e-1", "text")
    );
    let bare: Vec<_> = came.iter().filter(|event| event.event_type() == queue.name).collect();
    assert_eq!(bare.len(), 2);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_becomes_a_dead_letter_and_stops_nothing_beside_it() {
    let (queue, _dead) = Queue::with_dead("poison", 100);
    let megabytes = "x".repeat(200 << 10);
    let poison = [
        "123",
        "null",
        "true",
        "\"text\"",
        "[1]",
        "{}",
        "{",
        "<html><body>502</body></html>",
        "eyJhIjoxfQ==",
        " ",
        &megabytes,
        "{\"specversion\":\"1.0\"}",
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"\"}",
    ];
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    for (n, body) in poison.iter().enumerate() {
        queue.put(body, &json!({}));
        bus.publish(Event::new("sound").payload(n)).await.unwrap();
    }
    let mut said = heard(&bus).await;
    let mut sound = Vec::new();
    for _ in &poison {
        sound.push(next(&mut said).await.payload::<usize>().unwrap());
    }
    sound.sort_unstable();
    assert!(sound.into_iter().eq(0..poison.len()));
    tokio::time::timeout(Duration::from_secs(60), bus.idle()).await.unwrap().unwrap();
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), poison.len());
    for letter in &letters {
        assert!(letter.event.is_none() && letter.subscription == "reader", "{letter:?}");
        assert!(letter.reason.contains("decode"), "{letter:?}");
        assert_eq!(letter.group.as_deref(), Some("g"));
    }
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_what_is_published_beside_it_is_not() {
    let queue = Queue::new("large");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let most = bus.capability().payload_max;
    let of = |bytes: usize| Event::new("sized").payload("x".repeat(bytes - 2));
    let long = Event::new("meta").metadata("long", "x".repeat(262_144)).payload(1);
    let batch: Vec<_> = [of(most), of(most + 1), long, Event::new("small").payload(1)]
        .into_iter()
        .map(Into::into)
        .collect();
    let results = bus.publish_all(&batch).await;
    let kinds: Vec<_> =
        results.iter().map(|r| r.as_ref().err().map(railbus::Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::TooLarge), Some(ErrorKind::TooLarge), None]);
    assert!(!results[1].as_ref().unwrap_err().is_retryable());
    // Ten of these are more than one request may have.
    let many: Vec<_> = (0..10).map(|_| of(60 << 10).into()).collect();
    assert!(bus.publish_all(&many).await.iter().all(Result::is_ok));
    assert_eq!(queue.counts(), [12, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn everyone_in_the_process_who_wants_an_event_gets_it_and_one_message_is_acked() {
    let queue = Queue::new("fan-out");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let counts: Vec<Arc<AtomicUsize>> = (0..5).map(|_| Arc::default()).collect();
    let mut subscriptions = Vec::new();
    for (n, count) in counts.iter().enumerate() {
        let count = Arc::clone(count);
        let add = move |_: &Event| {
            count.fetch_add(1, SeqCst);
        };
        let on = bus.on("order.*");
        let on = if n < 3 { on.group("g").named(format!("s{n}")) } else { on };
        subscriptions.push(on.run(add).await.unwrap());
    }
    for n in 0..20 {
        bus.publish(Event::new("order.placed").payload(n)).await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(60), bus.idle()).await.unwrap().unwrap();
    assert!(counts.iter().all(|count| count.load(SeqCst) == 20), "{counts:?}");
    assert_eq!(queue.counts(), [0, 0, 0]);
    // One that is cancelled is called no more, and the others are.
    subscriptions.remove(0).cancel();
    bus.publish(Event::new("order.placed").payload(1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), bus.idle()).await.unwrap().unwrap();
    let told: Vec<_> = counts.iter().map(|count| count.load(SeqCst)).collect();
    assert_eq!(told, [20, 21, 21, 21, 21]);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_does_not_want_is_left_in_the_queue() {
    let queue = Queue::new("left");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let (says, mut said) = mpsc::unbounded_channel();
    let on = bus.on("mine").group("g");
    on.run(move |event: &Event| drop(says.send(event.clone()))).await.unwrap();
    for n in 0..5 {
        bus.publish(Event::new("another").payload(n)).await.unwrap();
        bus.publish(Event::new("mine").payload(n)).await.unwrap();
    }
    for _ in 0..5 {
        assert_eq!(next(&mut said).await.event_type(), "mine");
    }
    bus.close().await.unwrap();
    assert_eq!(queue.counts().iter().sum::<u64>(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_runs_and_leaves_the_rest_in_the_queue() {
    let queue = Queue::new("drain");
    let bus = Bus::open(&*queue.bus("")).await.unwrap();
    let (begun, done) = (Arc::new(Mutex::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&done));
    let (says, mut said) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .limit(3)
        .run(async move |_: Event| {
            *begins.lock().unwrap() += 1;
            let _ = says.send(());
            // sleep: the drain is to come while it runs
            tokio::time::sleep(Duration::from_millis(500)).await;
            ends.fetch_add(1, SeqCst);
        })
        .await
        .unwrap();
    let events: Vec<_> = (0..20).map(|n| Event::new("a").payload(n).into()).collect();
    bus.publish_all(&events).await;
    said.recv().await.unwrap();
    bus.close().await.unwrap();
    let begun = *begun.lock().unwrap();
    assert_eq!(begun, done.load(SeqCst), "what began was finished");
    assert!(begun < 20);
    let [there, held, _] = queue.counts();
    assert_eq!((there, held), (20 - begun as u64, 0));
    ask("PurgeQueue", &json!({ "QueueUrl": queue.url }));
}
