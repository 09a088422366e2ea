//! The order of keys on a stream, where others write to it and its server dies.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, Retry, SyncHandler, testing::Recorder};
use railbus_testbed::Redis;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

#[railbus::test]
async fn a_partition_key_that_another_program_wrote_is_a_key() {
    let redis = Redis::start().unwrap();
    let (bus, received) = (Bus::open(&redis.url("redis-streams")).await.unwrap(), Recorder::new());
    for n in 0..4 {
        let event = format!(
            r#"{{"specversion":"1.0","id":"{n}","source":"/s","type":"t","partitionkey":"☃ 1"}}"#
        );
        redis.command(&["XADD", "events", "*", "event", &event]).unwrap();
    }
    // What is no JSON has no key, and holds up nothing.
    redis.command(&["XADD", "events", "*", "event", r#"{"partitionkey":"#]).unwrap();
    let record = received.clone();
    let handler = async move |event: Event| {
        record.handle(&event)?;
        if record.len() % 2 == 1 { Err("not yet".into()) } else { railbus::done() }
    };
    let retry = Retry::attempts(2).backoff_factor(Duration::from_millis(1));
    let on = bus.on("t").group("g").ordered_by_key().limit(8).retry(retry);
    on.run(handler).await.unwrap();
    bus.idle().await.unwrap();
    let ids: Vec<_> = received.events().iter().map(|e| e.id().to_owned()).collect();
    assert_eq!(ids, ["0", "0", "1", "1", "2", "2", "3", "3"]);
}

#[railbus::test(timeout = "3m")]
async fn keys_stay_in_order_though_the_server_is_killed() {
    let redis = Redis::options().appendonly(true).start().unwrap();
    let done: Arc<Mutex<BTreeMap<String, Vec<u32>>>> = Arc::default();
    let mut buses = Vec::new();
    for _ in 0..2 {
        let bus = Bus::open(&redis.url("redis-streams")).await.unwrap();
        let done = Arc::clone(&done);
        let handler = async move |event: Event| {
            let (key, n): (_, u32) = (event.key().unwrap().to_owned(), event.get("n").unwrap());
            tokio::task::yield_now().await;
            let mut done = done.lock().unwrap();
            let all = done.entry(key).or_default();
            // One whose settlement was lost with the server comes again.
            if all.last() != Some(&n) {
                all.push(n);
            }
        };
        let on = bus.on("step").group("g").ordered_by_key().limit(4).lease(Duration::from_secs(1));
        on.retry(Retry::attempts(100)).run(handler).await.unwrap();
        buses.push(bus);
    }
    for part in 0..4 {
        let event = |n: u32| {
            let event = Event::new("step").key(format!("k{}", n % 5));
            event.payload(railbus::json!({ "n": part * 20 + n / 5 })).into()
        };
        let batch: Vec<_> = (0..100).map(event).collect();
        for published in buses[0].publish_all(&batch).await {
            published.unwrap();
        }
        redis.kill().unwrap();
        redis.start_again().unwrap();
        for bus in &buses {
            while bus.ping().await.is_err() {}
        }
    }
    buses[1].idle().await.unwrap();
    let done = done.lock().unwrap();
    assert_eq!(done.len(), 5);
    for (key, all) in &*done {
        assert_eq!(*all, (0..80).collect::<Vec<_>>(), "{key}");
    }
}
