//! What trimming removes, and what a run still counts of it.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, Retry,
    backend::{Outgoing, RunMark, Tally},
    predicate::{Interest, event_type},
};
use railbus_testbed::Redis;
use std::time::Duration;

fn len(redis: &Redis) -> u64 {
    redis.command(&["XLEN", "events"]).unwrap().parse().unwrap()
}

async fn publish(bus: &Bus, name: &str, run: RunMark) {
    let outgoing = Outgoing { run: Some(run), ..Event::new(name).payload(1).into() };
    bus.publish_all(&[outgoing]).await.remove(0).unwrap();
}

fn fails(event: &Event) -> Result<(), &'static str> {
    if event.event_type() == "fails" { Err("no") } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_goes_and_a_run_still_counts_it() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&format!("{}?max_len=100", redis.url("redis-streams"))).await.unwrap();
    let accounts = bus.accounts().unwrap();
    let run = accounts.begin(&[("g".to_owned(), event_type("[gf]*").interest())]).await.unwrap();
    let on = bus.on("[gf]*").group("g").named("n").retry(Retry::attempts(1));
    on.run(fails).await.unwrap();
    for round in 0..20 {
        for name in ["good", "good", "fails", "nobody-wants-it"] {
            for _ in 0..10 {
                publish(&bus, name, run).await;
            }
        }
        if round == 10 {
            bus.idle().await.unwrap();
        }
    }
    bus.idle().await.unwrap();
    // What is to go is counted, then it goes.
    let mut more = 0;
    let counting = async {
        while len(&redis) > 400 {
            publish(&bus, "good", run).await;
            more += 1;
            // sleep: whoever runs it looks every other second.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counting).await.expect("nothing goes");
    bus.idle().await.unwrap();
    let expected = Tally {
        published: 800 + more,
        delivered: 600 + more,
        succeeded: 400 + more,
        dead_lettered: 200,
        unmatched: 200,
        ..Tally::default()
    };
    assert_eq!(accounts.tally(run).await.unwrap(), expected);
    accounts.end(run).await.unwrap();
    bus.close().await.unwrap();
    let left = redis.command(&["EXISTS", "{events}:runs", "{events}:o:g", "{events}:run:1"]);
    assert_eq!(left.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_when_it_is_trimmed_counts_once_it_is_settled() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&format!("{}?max_len=100", redis.url("redis-streams"))).await.unwrap();
    let accounts = bus.accounts().unwrap();
    let groups = ["g", "h"].map(|name| (name.to_owned(), Interest::all()));
    let run = accounts.begin(&groups).await.unwrap();
    let slow = Retry::attempts(2).backoff_factor(Duration::from_secs(4));
    let on = bus.on("*").group("g").named("n").retry(slow).lease(Duration::from_secs(1));
    on.run(fails).await.unwrap();
    bus.on("*").group("h").named("n").run(|_: &Event| ()).await.unwrap();
    publish(&bus, "fails", run).await;
    let mut more = 0;
    let counting = async {
        while more < 300 || len(&redis) > 300 {
            publish(&bus, "good", run).await;
            more += 1;
            // sleep: as above.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counting).await.expect("nothing goes");
    bus.idle().await.unwrap();
    let expected = Tally {
        published: 1 + more,
        delivered: 1 + more,
        succeeded: more,
        dead_lettered: 1,
        retried: 1,
        ..Tally::default()
    };
    assert_eq!(accounts.tally(run).await.unwrap(), expected);
    bus.close().await.unwrap();
}
