//! What became of every event of a run, how far its input was read, and what trimming removes.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{Advance, LetterFilter, Outgoing, Position, RunMark, Tally},
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

#[tokio::test(flavor = "multi_thread")]
async fn a_run_counts_what_it_found_unsettled_and_not_what_other_runs_publish() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&redis.url("redis-streams")).await.unwrap();
    let groups = [("g".to_owned(), Interest::all())];
    let accounts = bus.accounts().unwrap();
    let earlier = accounts.begin(&groups).await.unwrap();
    let waiting = bus.on("*").group("g").named("n").run(|_: &Event| ()).await.unwrap();
    publish(&bus, "settled", earlier).await;
    bus.idle().await.unwrap();
    waiting.cancel();
    publish(&bus, "carried", earlier).await;
    let run = accounts.begin(&groups).await.unwrap();
    publish(&bus, "mine", run).await;
    publish(&bus, "another's", earlier).await;
    bus.publish(Event::new("nobody's").payload(1)).await.unwrap();
    assert!(!accounts.is_idle(&groups).await.unwrap());
    assert!(accounts.is_idle(&[("g".into(), event_type("x").interest())]).await.unwrap());
    let open = Tally { published: 2, carried: 1, ..Tally::default() };
    assert_eq!(accounts.tally(run).await.unwrap(), open);
    bus.on("*").group("g").named("n").run(|_: &Event| ()).await.unwrap();
    bus.idle().await.unwrap();
    assert!(accounts.is_idle(&groups).await.unwrap());
    let all = Tally { delivered: 3, succeeded: 3, ..open };
    assert_eq!(accounts.tally(run).await.unwrap(), all);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_handed_back_counts_by_how_it_ends_then() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&redis.url("redis-streams")).await.unwrap();
    let accounts = bus.accounts().unwrap();
    let run = accounts.begin(&[("g".into(), Interest::all())]).await.unwrap();
    let on = || bus.on("fails").group("g").named("n").retry(Retry::attempts(2));
    let failing = on().run(fails).await.unwrap();
    publish(&bus, "fails", run).await;
    bus.idle().await.unwrap();
    failing.cancel();
    let dead =
        Tally { published: 1, delivered: 1, dead_lettered: 1, retried: 1, ..Tally::default() };
    assert_eq!(accounts.tally(run).await.unwrap(), dead);
    on().run(|_: &Event| ()).await.unwrap();
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(bus.keeper().unwrap().redrive(&[letters[0].id.clone()]).await.unwrap(), 1);
    bus.idle().await.unwrap();
    let healed = Tally { dead_lettered: 0, succeeded: 1, ..dead };
    assert_eq!(accounts.tally(run).await.unwrap(), healed);
    bus.close().await.unwrap();
}

/// A line of an input, from one offset to the next.
fn line(id: &str, from: u64, to: u64) -> Outgoing {
    let to = Position { offset: to, fingerprint: u64::MAX - to };
    let step = Advance { input: "orders.ndjson".into(), from, to };
    Outgoing { position: Some(step), ..Event::new("t").id(id).payload(1).into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_moves_with_its_events_or_neither_does() {
    let redis = Redis::start().unwrap();
    let bus = Bus::open(&redis.url("redis-streams")).await.unwrap();
    let accounts = bus.accounts().unwrap();
    assert_eq!(accounts.position("orders.ndjson").await.unwrap(), None);
    let broken = Outgoing { rejected: Some("not JSON".into()), ..line("2", 10, 20) };
    let first = bus.publish_all(&[line("1", 0, 10), broken, line("3", 20, 30)]).await;
    assert!(first.iter().all(Result::is_ok), "{first:?}");
    let late = bus.publish_all(&[line("4", 20, 40), line("5", 40, 50)]).await;
    assert!(late.iter().all(|r| r.as_ref().unwrap_err().kind() == ErrorKind::Stale), "{late:?}");
    let stored = accounts.position("orders.ndjson").await.unwrap().unwrap();
    assert_eq!(stored, Position { offset: 30, fingerprint: u64::MAX - 30 });
    assert_eq!(len(&redis), 2);
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(
        (&*letter.event_id, &*letter.subscription, &*letter.reason, letter.group.as_deref()),
        ("2", "orders.ndjson", "not JSON", None)
    );
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_read_one_input_at_once_each_line_is_stored_once() {
    let redis = Redis::start().unwrap();
    let url = redis.url("redis-streams");
    let mut reading = Vec::new();
    for _ in 0..4 {
        let url = url.clone();
        reading.push(tokio::spawn(async move {
            let bus = Bus::open(&url).await.unwrap();
            let accounts = bus.accounts().unwrap();
            loop {
                let position = accounts.position("orders.ndjson").await.unwrap();
                let at = position.map_or(0, |p| p.offset);
                if at == 40 {
                    return bus.close().await.unwrap();
                }
                match bus.publish_all(&[line(&at.to_string(), at, at + 1)]).await.remove(0) {
                    Ok(_) => {}
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Stale, "{e}"),
                }
            }
        }));
    }
    for reader in reading {
        reader.await.unwrap();
    }
    assert_eq!(len(&redis), 40);
}
