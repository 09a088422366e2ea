//! Consumers: when they fetch, how much and how often, what ends them and what does not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "everywhere/faulty.rs"]
mod faulty;
#[path = "everywhere/places.rs"]
mod places;

use faulty::Faulty;
use railbus::{
    Consumer, ErrorKind, Event, Producer, Result, Retry, SyncHandler,
    backend::{Backend, Capability, LetterFilter, Outgoing, Source, Subscribe},
    delivery::{Delivery, Lease, Nack, Then},
    json,
    testing::Recorder,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::yield_now,
};

async fn let_others_run() {
    for _ in 0..100 {
        yield_now().await;
    }
}

#[railbus::test]
async fn nothing_is_fetched_before_all_handlers_are_there() {
    for place in places::grouped() {
        let consumer = Consumer::open(&place.with("group=g")).await.unwrap();
        assert_eq!(consumer.group(), "g");
        let (created, placed) = (Recorder::new(), Recorder::new());
        consumer.on("user.created").run(created.clone()).await.unwrap();
        // There is nobody for this one yet.
        for event_type in ["order.placed", "user.created"] {
            consumer.bus().publish(Event::new(event_type)).await.unwrap();
        }
        consumer.on("order.placed").run(placed.clone()).await.unwrap();
        assert_eq!(consumer.bus().counters().delivered.get(), 0, "{}", place.url);
        // A memory keeps no log: a group begins when it is joined.
        let before = usize::from(!place.url.starts_with("memory"));
        consumer.start().await.unwrap();
        for event_type in ["order.placed", "user.created"] {
            consumer.bus().publish(Event::new(event_type)).await.unwrap();
        }
        consumer.bus().idle().await.unwrap();
        assert_eq!((created.len(), placed.len()), (before + 1, before + 1), "{}", place.url);
        assert_eq!(consumer.bus().counters().unmatched.get(), 0);
        consumer.stop().await.unwrap();
    }
}

#[railbus::test]
async fn a_handler_that_is_added_after_the_start_is_called_from_then_on() {
    for place in places::grouped() {
        let consumer = Consumer::open(&place.with("group=g")).await.unwrap();
        consumer.on("a").run(|_: &Event| {}).await.unwrap();
        consumer.start().await.unwrap();
        let seen = Recorder::new();
        consumer.on("b").run(seen.clone()).await.unwrap();
        consumer.bus().publish(Event::new("b")).await.unwrap();
        seen.wait_for(1).await;
        consumer.stop().await.unwrap();
    }
}

#[railbus::test]
async fn two_consumers_of_a_group_share_its_events_and_another_group_has_them_all() {
    for place in places::durable() {
        let open = async |group: &str| {
            let consumer = Consumer::open(&place.with(&format!("group={group}"))).await.unwrap();
            let seen = Recorder::new();
            consumer.on("a").run(seen.clone()).await.unwrap();
            consumer.start().await.unwrap();
            (consumer, seen)
        };
        let (one, two, other) = (open("g").await, open("g").await, open("other").await);
        let producer = Producer::open(&place.url).await.unwrap();
        let results = producer.publish_all((0..100).map(|n| ("a", n))).await;
        assert!(results.iter().all(Result::is_ok));
        for (consumer, _) in [&one, &two, &other] {
            consumer.bus().idle().await.unwrap();
        }
        let numbers = |seen: &Recorder| -> Vec<i32> {
            seen.events().iter().map(|e| e.payload().unwrap()).collect()
        };
        let mut shared = [numbers(&one.1), numbers(&two.1)].concat();
        shared.sort_unstable();
        assert_eq!(shared, (0..100).collect::<Vec<_>>(), "{}", place.url);
        assert_eq!(other.1.len(), 100);
        producer.close().await.unwrap();
        for (consumer, _) in [one, two, other] {
            consumer.stop().await.unwrap();
        }
    }
}

#[railbus::test]
async fn no_more_events_are_handled_at_once_than_there_are_workers() {
    for place in places::grouped() {
        let consumer = Consumer::open(&place.with("group=g&max_workers=3")).await.unwrap();
        let (now, most, go) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, at_most, three) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&go));
        let handle = async move |_: Event| {
            let running = count.fetch_add(1, SeqCst) + 1;
            at_most.fetch_max(running, SeqCst);
            if running == 3 {
                three.notify_one();
            }
            yield_now().await;
            yield_now().await;
            count.fetch_sub(1, SeqCst);
        };
        consumer.on("a").run(handle).await.unwrap();
        consumer.start().await.unwrap();
        let batch: Vec<_> = (0..30).map(|n| Event::new("a").payload(n).into()).collect();
        consumer.bus().publish_all(&batch).await;
        consumer.bus().idle().await.unwrap();
        go.notified().await;
        assert_eq!(most.load(SeqCst), 3, "{}", place.url);
        consumer.stop().await.unwrap();
    }
}

/// Returns a consumer over memory with faults, and who publishes to it.
fn faulty() -> (Consumer, Arc<faulty::Faults>, Producer) {
    let (faulty, faults) = Faulty::new();
    let producer = Producer::over(faulty.connect());
    (Consumer::over(faulty, "g").unwrap(), faults, producer)
}

#[railbus::test]
async fn no_more_is_fetched_at_once_than_a_batch_or_than_there_are_free_workers() {
    type Say = fn(Consumer) -> Consumer;
    let says: [(Say, usize); 4] = [
        (|consumer| consumer.batch_size(10).max_workers(5), 5),
        (|consumer| consumer.batch_size(2).max_workers(5), 2),
        (|consumer| consumer.batch_size(10), 10),
        (|consumer| consumer, 128),
    ];
    for (say, most) in says {
        let (consumer, faults, producer) = faulty();
        let consumer = say(consumer);
        let seen = Recorder::new();
        consumer.on("a").run(seen.clone()).await.unwrap();
        consumer.start().await.unwrap();
        producer.publish_all((0..50).map(|n| ("a", n))).await;
        seen.wait_for(50).await;
        let asked = faults.asked.lock().unwrap().iter().copied().max();
        assert_eq!(asked, Some(most));
        consumer.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_interval_bounds_how_often_is_fetched_unless_a_batch_was_full() {
    let (consumer, faults, producer) = faulty();
    let consumer = consumer.poll_interval(Duration::from_secs(5)).batch_size(3);
    let seen = Recorder::new();
    consumer.on("a").run(seen.clone()).await.unwrap();
    let (began, fetches) = (tokio::time::Instant::now(), || faults.asked.lock().unwrap().len());
    consumer.start().await.unwrap();
    // The first fetch waits for an event, and has it at once.
    producer.publish(("a", 0)).await.unwrap();
    seen.wait_for(1).await;
    assert_eq!((fetches(), began.elapsed()), (1, Duration::ZERO));
    // Seven more: two full batches one after the other, and what is left of them.
    producer.publish_all((1..8).map(|n| ("a", n))).await;
    let_others_run().await;
    assert_eq!((fetches(), seen.len()), (1, 1), "it is not time yet");
    seen.wait_for(8).await;
    assert_eq!((fetches(), began.elapsed().as_secs()), (4, 5));
    consumer.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_waits_for_its_interval_stops_at_once() {
    let (consumer, _, producer) = faulty();
    let consumer = consumer.poll_interval(Duration::from_secs(3600));
    let seen = Recorder::new();
    consumer.on("a").run(seen.clone()).await.unwrap();
    consumer.start().await.unwrap();
    producer.publish(("a", 0)).await.unwrap();
    seen.wait_for(1).await;
    let began = tokio::time::Instant::now();
    consumer.stop().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn no_number_of_errors_that_pass_ends_a_consumer() {
    let (consumer, faults, producer) = faulty();
    let seen = Recorder::new();
    let keep = seen.clone();
    let handle = move |event: &Event| match event.payload::<i32>().unwrap() {
        n if n < 0 => panic!("a handler that panics"),
        _ => keep.handle(event),
    };
    let twice = Retry::attempts(2).backoff_factor(Duration::from_secs(1));
    consumer.on("a").retry(twice).run(handle).await.unwrap();
    faults.fetches.store(100, SeqCst);
    consumer.start().await.unwrap();
    for n in [1, -1, 2, -2, 3] {
        faults.fetches.store(10, SeqCst);
        faults.settlements.store(1, SeqCst);
        producer.publish(("a", n)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await; // sleep: virtual time, for what is tried again
    }
    consumer.bus().idle().await.unwrap();
    let mut numbers: Vec<i32> = seen.events().iter().map(|e| e.payload().unwrap()).collect();
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3]);
    let letters = consumer.bus().keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 2);
    consumer.stop().await.unwrap();
}

#[railbus::test]
async fn stopping_lets_what_runs_finish_and_gives_back_what_did_not_begin() {
    for place in places::durable() {
        let url = place.with("group=g&max_workers=1");
        let consumer = Consumer::open(&url).await.unwrap();
        let (began, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (beginning, waiting) = (Arc::clone(&began), Arc::clone(&go));
        let done = Recorder::new();
        let keep = done.clone();
        let handle = async move |event: Event| {
            beginning.add_permits(1);
            waiting.acquire().await.unwrap().forget();
            keep.handle(&event)
        };
        consumer.on("a").run(handle).await.unwrap();
        consumer.start().await.unwrap();
        let batch: Vec<_> = (0..5).map(|n| Event::new("a").payload(n).into()).collect();
        consumer.bus().publish_all(&batch).await;
        began.acquire().await.unwrap().forget();
        let stopping = consumer.clone();
        let stopping = tokio::spawn(async move { stopping.stop().await });
        let_others_run().await;
        assert!(!stopping.is_finished(), "one is in flight");
        go.add_permits(1);
        stopping.await.unwrap().unwrap();
        assert_eq!((done.len(), began.available_permits()), (1, 0), "{}", place.url);

        let next = Consumer::open(&url).await.unwrap();
        let attempts = Arc::<Mutex<Vec<u32>>>::default();
        let keep = Arc::clone(&attempts);
        let note = move |delivery: Delivery| keep.lock().unwrap().push(delivery.attempt());
        next.on("a").run(note).await.unwrap();
        next.start().await.unwrap();
        next.bus().idle().await.unwrap();
        assert_eq!(*attempts.lock().unwrap(), [1; 4], "{}", place.url);
        next.stop().await.unwrap();
    }
}

#[railbus::test]
async fn a_consumer_begins_once_and_ends_once() {
    for place in places::grouped() {
        let consumer = Consumer::open(&place.with("group=g")).await.unwrap();
        let refused = consumer.start().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        let seen = Recorder::new();
        consumer.on("a").run(seen.clone()).await.unwrap();
        consumer.start().await.unwrap();
        consumer.start().await.unwrap();
        consumer.bus().publish(Event::new("a")).await.unwrap();
        consumer.bus().idle().await.unwrap();
        assert_eq!(seen.len(), 1);
        consumer.stop().await.unwrap();
        consumer.stop().await.unwrap();
        assert_eq!(consumer.start().await.unwrap_err().kind(), ErrorKind::Closed);
        let late = consumer.on("b").run(|_: &Event| {}).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Closed);
    }
}

#[railbus::test]
async fn a_policy_that_says_stop_ends_a_consumer_that_runs_until_a_signal() {
    for place in places::grouped() {
        let consumer = Consumer::open(&place.with("group=g")).await.unwrap();
        let on = consumer.on("a").retry(Retry::attempts(1)).then(Then::Stop);
        on.run(async |_: Event| Err::<(), _>("the disk is full")).await.unwrap();
        let running = consumer.clone();
        let running = tokio::spawn(async move { running.until_signal().await });
        // It starts what was not started.
        while consumer.bus().counters().delivered.get() == 0 {
            consumer.bus().publish(Event::new("a")).await.unwrap();
            yield_now().await;
        }
        let ended = running.await.unwrap().unwrap_err();
        assert!(ended.to_string().contains("the disk is full"), "{ended}");
        assert!(consumer.bus().publish(Event::new("a")).await.is_err(), "it is closed");
    }
}

#[railbus::test]
async fn a_handler_settles_by_hand_as_on_a_bus() {
    for place in places::durable() {
        let consumer = Consumer::open(&place.with("group=g&lease=5s")).await.unwrap();
        let attempts = Arc::<Mutex<Vec<u32>>>::default();
        let keep = Arc::clone(&attempts);
        let settle = async move |delivery: Delivery, lease: Lease| {
            keep.lock().unwrap().push(delivery.attempt());
            drop(match delivery.attempt() {
                1 => lease.nack(Nack { delay: Duration::ZERO, reason: "not yet".into() }),
                _ => lease.ack(),
            });
        };
        consumer.on("a").manual().run(settle).await.unwrap();
        consumer.start().await.unwrap();
        consumer.bus().publish(Event::new("a")).await.unwrap();
        consumer.bus().idle().await.unwrap();
        assert_eq!(*attempts.lock().unwrap(), [1, 2], "{}", place.url);
        consumer.stop().await.unwrap();
    }
}

#[railbus::test]
async fn a_setting_that_is_wrong_is_told_with_what_is_allowed() {
    for (settings, told, advice) in [
        ("group=g&max_workers=0", "`0` is not a value of `max_workers`", "from 1 on"),
        ("group=g&batch_size=ten", "`ten` is not a value of `batch_size`", "from 1 on"),
        ("group=g&poll_interval=1", "`1` is not a value of `poll_interval`", "1s"),
        ("group=g&lease=soon", "`soon` is not a value of `lease`", "500ms"),
        ("group=g&batchsize=1", "`batchsize` is not a setting of memory", "`batch_size`"),
        ("max_workers=1", "none is named", "group=NAME"),
    ] {
        let error = Consumer::open(&format!("memory:?{settings}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(told), "{error}");
        assert!(error.advice().unwrap().contains(advice), "{error:?} {:?}", error.advice());
    }
    let map = json!({ "backend": "memory", "wire": "always", "group": "g", "max_workers": 5 });
    Consumer::open(map).await.unwrap().stop().await.unwrap();
}

/// A backend without groups.
#[derive(Debug)]
struct Plain;

const PLAIN: Capability = Capability::inline("plain");

#[async_trait::async_trait]
impl Backend for Plain {
    fn capability(&self) -> &Capability {
        &PLAIN
    }

    async fn publish(&self, batch: &[Outgoing]) -> Vec<Result<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn subscribe(&self, _: Subscribe) -> Result<Arc<dyn Source>> {
        unreachable!("what is not claimed is not asked for")
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self, _: Duration) -> Result<()> {
        Ok(())
    }
}

#[railbus::test]
async fn a_backend_without_groups_has_no_consumers() {
    let refused = Consumer::over(Arc::new(Plain), "g").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.advice().unwrap().contains("memory"), "{:?}", refused.advice());
}

#[railbus::test]
async fn a_consumer_joins_no_group_for_handlers_that_were_cancelled() {
    let (consumer, _, _) = faulty();
    let handler = consumer.on("a").run(|_: &Event| ()).await.unwrap();
    handler.cancel();
    let refused = consumer.start().await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    assert!(consumer.bus().keeper().unwrap().groups().await.unwrap().is_empty());
}
