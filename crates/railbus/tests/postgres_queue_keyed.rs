//! Order by key over several members, with failures, on tables of PostgreSQL.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, Retry};
use railbus_testbed::Postgres;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_are_handled_one_after_another_whoever_fails_and_others_go_on() {
    const KEYS: usize = 6;
    const EACH: usize = 30;
    let server = Postgres::start().unwrap();
    let url = server.database().unwrap().url("postgres-queue");
    type Done = Arc<Mutex<HashMap<String, Vec<usize>>>>;
    let (done, tries) = (Done::default(), Arc::new(Mutex::new(HashMap::<String, u32>::new())));
    let mut buses = Vec::new();
    for _ in 0..3 {
        let bus = Bus::open(&url).await.unwrap();
        let (done, tries) = (Arc::clone(&done), Arc::clone(&tries));
        let handler = async move |event: Event| {
            let (key, n): (String, usize) = (event.key().unwrap().into(), event.payload().unwrap());
            // sleep: others of the key would overtake it meanwhile.
            tokio::time::sleep(Duration::from_millis((n % 4) as u64)).await;
            let tried = {
                let mut tries = tries.lock().unwrap();
                let tried = tries.entry(event.id().to_owned()).or_default();
                *tried += 1;
                *tried
            };
            if n % 7 == 3 && tried < 3 {
                return Err("not yet");
            }
            done.lock().unwrap().entry(key).or_default().push(n);
            Ok(())
        };
        let retry = Retry::attempts(5).backoff_factor(Duration::from_millis(5));
        bus.on("t").group("g").ordered_by_key().limit(8).retry(retry).run(handler).await.unwrap();
        buses.push(bus);
    }
    for n in 0..EACH {
        for key in 0..KEYS {
            buses[n % 3].publish(Event::new("t").key(format!("k{key}")).payload(n)).await.unwrap();
        }
    }
    buses[0].idle().await.unwrap();
    let done = done.lock().unwrap();
    assert_eq!(done.len(), KEYS);
    for (key, order) in &*done {
        assert_eq!(*order, (0..EACH).collect::<Vec<_>>(), "{key}");
    }
    drop(buses);
}
