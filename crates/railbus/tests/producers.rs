//! Producers: what Ok means, what an event is given, how many are on their way, how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "everywhere/places.rs"]
mod places;

use faulty::Faulty;
use railbus::{
    Bus, Consumer, ErrorKind, Event, Producer, Result, Retry, backends::memory::Memory, json,
    testing::Recorder,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::task::yield_now;

/// Lets all tasks go on until they wait for something else.
async fn let_others_run() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[railbus::test]
async fn what_a_producer_says_ok_to_is_there_for_who_comes_later() {
    for place in places::durable() {
        let producer = Producer::open(&place.url).await.unwrap();
        producer.ping().await.unwrap();
        for n in 1..=3 {
            producer.publish(("user.created", json!({ "n": n }))).await.unwrap();
        }
        producer.close().await.unwrap();

        let (consumer, seen) = (
            Consumer::open(&place.with("group=mails&max_workers=1")).await.unwrap(),
            Recorder::new(),
        );
        consumer.on("user.*").run(seen.clone()).await.unwrap();
        consumer.start().await.unwrap();
        let numbers: Vec<i64> =
            seen.wait_for(3).await.iter().map(|e| e.get("n").unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3], "{}", place.url);
        consumer.stop().await.unwrap();
    }
}

#[railbus::test]
async fn an_event_has_the_producers_source_and_attributes_where_it_has_none_of_its_own() {
    for place in places::durable() {
        let producer = Producer::open(&place.url).await.unwrap();
        let producer = producer.source("web-app").metadata("version", "1.0").metadata("zone", "eu");
        producer.publish(("a", json!({ "order_id": "ord_123" }))).await.unwrap();
        let own = Event::new("b").source("import").metadata("version", "2.0").payload(1);
        producer.publish(&own).await.unwrap();
        let results = producer.publish_all([Event::new("c").payload(1)]).await;
        assert!(results[0].is_ok());
        producer.close().await.unwrap();
        // The one that was given is as it was.
        assert_eq!(own.metadata().len(), 1);

        let consumer = Consumer::open(&place.with("group=g&max_workers=1")).await.unwrap();
        let seen = Recorder::new();
        consumer.on("*").run(seen.clone()).await.unwrap();
        consumer.start().await.unwrap();
        let events = seen.wait_for(3).await;
        let told: Vec<_> = events
            .iter()
            .map(|e| (e.source(), &*e.metadata()["version"], &*e.metadata()["zone"]))
            .collect();
        assert_eq!(
            told,
            [("web-app", "1.0", "eu"), ("import", "2.0", "eu"), ("web-app", "1.0", "eu")]
        );
        consumer.stop().await.unwrap();
    }
}

#[railbus::test]
async fn a_batch_has_one_result_an_event_in_order() {
    for place in places::durable() {
        let producer = Producer::open(&place.url).await.unwrap();
        let types = ["a", "", "b"].map(|name| Event::new(name).payload(1));
        let results = producer.publish_all(&types).await;
        let kinds: Vec<_> = results.iter().map(|r| r.as_ref().map_err(|e| e.kind())).collect();
        assert_eq!(kinds, [Ok(&()), Err(ErrorKind::InvalidEvent), Ok(&())], "{}", place.url);
        assert!(producer.publish_all(Vec::<Event>::new()).await.is_empty());
        producer.close().await.unwrap();
    }
}

#[railbus::test]
async fn no_more_events_are_on_their_way_than_may_be() {
    let (faulty, faults) = Faulty::held();
    let producer = Producer::over(faulty).in_flight(4);
    let publishers: Vec<_> = (0..50)
        .map(|n| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.publish(("a", n)).await })
        })
        .collect();
    let_others_run().await;
    assert_eq!(faults.now.load(SeqCst), 4);
    faults.room.add_permits(50);
    for publisher in publishers {
        publisher.await.unwrap().unwrap();
    }
    assert_eq!(faults.most.load(SeqCst), 4);
}

#[railbus::test]
async fn a_batch_takes_from_its_iterator_only_what_may_be_on_its_way() {
    let (faulty, faults) = Faulty::held();
    let producer = Producer::over(faulty).in_flight(8);
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let endless = (0..1_000).map(move |n| {
        count.fetch_add(1, SeqCst);
        ("a", n)
    });
    let publishing = tokio::spawn(async move { producer.publish_all(endless).await });
    let_others_run().await;
    assert_eq!((taken.load(SeqCst), faults.now.load(SeqCst)), (8, 8));
    faults.room.add_permits(1);
    let_others_run().await;
    assert_eq!(taken.load(SeqCst), 16, "as many more as were confirmed");
    faults.room.add_permits(1_000);
    assert_eq!(publishing.await.unwrap().into_iter().filter(Result::is_ok).count(), 1_000);
    assert_eq!(faults.most.load(SeqCst), 8);
}

#[railbus::test]
async fn who_stops_waiting_gives_back_its_room() {
    let (faulty, faults) = Faulty::held();
    let producer = Producer::over(faulty).in_flight(1);
    for _ in 0..3 {
        let publishing = producer.publish(("a", 1));
        assert!(tokio::time::timeout(Duration::from_millis(1), publishing).await.is_err());
    }
    faults.room.add_permits(10);
    producer.publish(("a", 2)).await.unwrap();
}

#[railbus::test]
async fn inside_a_handler_of_another_bus_a_producer_waits_for_room_as_anywhere() {
    let (faulty, faults) = Faulty::held();
    let producer = Producer::over(faulty).in_flight(1);
    let outside = producer.clone();
    let waiting = tokio::spawn(async move { outside.publish(("a", 1)).await });
    let_others_run().await;
    let bus = Bus::new();
    let inside = async move |_: Event| producer.publish(("b", 2)).await;
    bus.on("tick").run(inside).await.unwrap();
    let publishing = tokio::spawn(async move { bus.publish(Event::new("tick")).await });
    let_others_run().await;
    assert_eq!(faults.now.load(SeqCst), 1, "it waits for the one outside");
    faults.room.add_permits(2);
    assert!(publishing.await.unwrap().unwrap().failures.is_empty());
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_can_not_take_now_is_tried_again_under_its_id() {
    let (faulty, faults) = Faulty::new();
    let producer = Producer::over(faulty).retry(Retry::attempts(3));
    faults.publishes.store(2, SeqCst);
    producer.publish(Event::new("a").id("e-1").payload(1)).await.unwrap();
    assert_eq!(*faults.batches.lock().unwrap(), [["e-1"]; 3]);

    faults.publishes.store(3, SeqCst);
    let given_up = producer.publish(("a", 1)).await.unwrap_err();
    assert_eq!(given_up.kind(), ErrorKind::Unavailable);
    // Without a retry there is one try.
    faults.publishes.store(1, SeqCst);
    assert!(producer.clone().retry(Retry::attempts(1)).publish(("a", 1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_of_a_batch_is_tried_again() {
    let (faulty, faults) = Faulty::new();
    let producer = Producer::over(faulty).retry(Retry::attempts(2));
    faults.publishes.store(2, SeqCst);
    let batch = ["e-1", "", "e-2", "e-3"].map(|id| Event::new("a").id(id).payload(1));
    let results = producer.publish_all(&batch).await;
    let kinds: Vec<_> = results.iter().map(|r| r.as_ref().map_err(|e| e.kind())).collect();
    assert_eq!(kinds, [Ok(&()), Err(ErrorKind::InvalidEvent), Ok(&()), Ok(&())]);
    assert_eq!(*faults.batches.lock().unwrap(), [vec!["e-1", "e-2", "e-3"], vec!["e-1", "e-2"]]);
}

#[railbus::test]
async fn what_no_try_can_change_is_not_tried_again() {
    let (faulty, faults) = Faulty::new();
    let producer = Producer::over(faulty).retry(Retry::attempts(9));
    let refused = producer.publish(("", 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidEvent);
    assert!(faults.batches.lock().unwrap().is_empty());
}

#[railbus::test]
async fn closing_waits_for_what_is_on_its_way_and_takes_nothing_new() {
    let (faulty, faults) = Faulty::held();
    let producer = Producer::over(faulty).in_flight(2);
    let spawn = || {
        let producer = producer.clone();
        tokio::spawn(async move { producer.publish(("a", 1)).await })
    };
    let (on_their_way, waiting) = ([spawn(), spawn()], spawn());
    let_others_run().await;
    let closing = producer.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    let_others_run().await;
    assert!(!closing.is_finished(), "two are on their way");
    assert_eq!(producer.publish(("a", 2)).await.unwrap_err().kind(), ErrorKind::Closed);
    faults.room.add_permits(2);
    closing.await.unwrap().unwrap();
    for publishing in on_their_way {
        publishing.await.unwrap().unwrap();
    }
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    producer.close().await.unwrap();
    let late = producer.publish_all([("a", 3)]).await.remove(0).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
}

#[railbus::test]
async fn closing_waits_for_what_clones_with_a_room_of_their_own_have_on_its_way() {
    let (faulty, faults) = Faulty::held();
    let producer = Producer::over(faulty);
    let other = producer.clone().in_flight(2);
    let publishing = tokio::spawn(async move { other.publish(("a", 1)).await });
    let_others_run().await;
    let closing = producer.clone();
    let closing = tokio::spawn(async move { closing.close().await });
    let_others_run().await;
    assert!(!closing.is_finished(), "one is on its way");
    faults.room.add_permits(1);
    closing.await.unwrap().unwrap();
    publishing.await.unwrap().unwrap();
}

#[railbus::test]
async fn closing_ends_the_wait_for_another_try() {
    let (faulty, faults) = Faulty::new();
    let hourly = Retry::attempts(9).backoff_factor(Duration::from_secs(3600));
    let producer = Producer::over(faulty).retry(hourly.max_backoff(Duration::from_secs(3600)));
    faults.publishes.store(u32::MAX, SeqCst);
    let publishing = producer.clone();
    let publishing = tokio::spawn(async move { publishing.publish(("a", 1)).await });
    let_others_run().await;
    producer.close().await.unwrap();
    assert_eq!(publishing.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[railbus::test]
async fn a_producer_has_no_memory_of_its_own() {
    let refused = Producer::open("memory:").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.advice().is_some());
    // On a memory that others are on it is one like others.
    let memory = Memory::default();
    let consumer = Consumer::over(Arc::new(memory.connect()), "g").unwrap();
    let seen = Recorder::new();
    consumer.on("a").run(seen.clone()).await.unwrap();
    consumer.start().await.unwrap();
    Producer::over(Arc::new(memory)).publish(("a", 1)).await.unwrap();
    seen.wait_for(1).await;
    consumer.stop().await.unwrap();
}
