//! What a listener on Redis streams holds back until it is due.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_served/member.rs"]
mod member;

use member::{event, group, number, open, take};
use railbus::{
    ErrorKind, Event,
    backend::{Backend, Source, Subscribe},
};
use railbus_testbed::{Proxy, Redis};
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

async fn listen(backend: &Arc<dyn Backend>) -> Arc<dyn Source> {
    let all = Subscribe { group: None, ..group("", HOUR) };
    backend.subscribe(all).await.unwrap()
}

async fn publish(backend: &Arc<dyn Backend>, events: Vec<Event>) {
    let batch: Vec<_> = events.into_iter().map(Into::into).collect();
    backend.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
}

fn late(n: u32, delay: Duration) -> Event {
    Event::new("tick").topic("ticks").delay(delay).payload(n)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_while_the_server_refuses_to_look_is_heard_afterwards() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = listen(&backend).await;
    let soon = Duration::from_millis(100);
    publish(&backend, vec![late(1, soon), late(2, soon), event(0)]).await;
    assert_eq!(number(&take(&source, 1).await[0]), 0);
    redis.command(&["ACL", "SETUSER", "default", "-xrange"]).unwrap();
    let fetching = tokio::time::timeout(Duration::from_secs(20), source.fetch(10));
    let refused = fetching.await.expect("it is passed over").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
    redis.command(&["ACL", "SETUSER", "default", "+xrange"]).unwrap();
    let heard: Vec<_> = take(&source, 2).await.iter().map(number).collect();
    assert_eq!(heard, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_whether_all_was_heard_brings_none_of_what_is_held_back() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let far = open(&proxy.url_of(&redis.url("redis-streams"))).await;
    let source = listen(&far).await;
    let body = "x".repeat(10_000);
    let held = |n: u32| {
        let event = Event::new("tick").topic("ticks").id(format!("e-{n}"));
        event.delay(HOUR).payload(body.clone())
    };
    publish(&near, (0..500).map(held).collect()).await;
    publish(&near, vec![event(0)]).await;
    // All before it is known then.
    assert_eq!(number(&take(&source, 1).await[0]), 0);
    let before = proxy.bytes();
    assert_eq!(source.handed_out().await.unwrap(), None);
    let bytes = proxy.bytes() - before;
    assert!(bytes < 200_000, "{bytes} bytes came of 500 events");
    for n in 0..499 {
        assert!(near.withdraw(&format!("e-{n}")).await.unwrap(), "{n}");
    }
    assert_eq!(source.handed_out().await.unwrap(), None, "one is held back still");
    assert!(near.withdraw("e-499").await.unwrap());
    assert_eq!(source.handed_out().await.unwrap(), Some(1));
}

/// Tells how many bytes the server's notes of what can be withdrawn take.
fn noted(redis: &Redis) -> u64 {
    let keys = redis.command(&["KEYS", "{events}:late*"]).unwrap();
    let taken = |key| redis.command(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).unwrap();
    keys.lines().map(|key| taken(key).parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_forgotten_though_its_id_is_held_back_again_and_again() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let tick = |delay| Event::new("tick").topic("ticks").id("tick").delay(delay).payload(1);
    publish(&backend, vec![tick(HOUR)]).await;
    for _ in 0..20 {
        publish(&backend, vec![tick(Duration::from_millis(1)); 20]).await;
        // sleep: until they are due.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    publish(&backend, vec![tick(HOUR); 20]).await;
    let bytes = noted(&redis);
    assert!(bytes < 6_000, "{bytes} bytes are noted of 21 events");
    assert!(backend.withdraw("tick").await.unwrap());
    let left = redis.command(&["XLEN", "events"]).unwrap();
    assert_eq!(left, "400", "all that was held back is withdrawn at once");
    assert!(!backend.withdraw("tick").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_begin_alike_are_withdrawn_apart() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let ids = ["a", "a ", "a 1-1 5", "1:a", "a\u{7f}"];
    let event = |id: &str| Event::new("tick").topic("ticks").id(id).delay(HOUR).payload(1);
    publish(&backend, ids.into_iter().map(event).collect()).await;
    for (gone, id) in (1..).zip(ids) {
        assert!(backend.withdraw(id).await.unwrap(), "{id:?}");
        let left = redis.command(&["XLEN", "events"]).unwrap();
        assert_eq!(left, (ids.len() - gone).to_string(), "{id:?}");
        assert!(!backend.withdraw(id).await.unwrap(), "{id:?}");
    }
}

/// Returns how many words the longest command had that the server did, or a little less.
fn longest(redis: &Redis) -> u64 {
    let log = redis.command(&["SLOWLOG", "GET", "10000"]).unwrap();
    let more = |line: &str| {
        let (_, more) = line.split_once("... (")?;
        more.strip_suffix(" more arguments)")?.parse().ok()
    };
    log.lines().filter_map(more).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_goes_in_parts_though_some_of_it_is_held_back() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = listen(&backend).await;
    redis.command(&["CONFIG", "SET", "slowlog-max-len", "10000"]).unwrap();
    redis.command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]).unwrap();
    let nth = |n| if n == 1500 { late(n, HOUR) } else { event(n) };
    publish(&backend, (0..2000).map(nth).collect()).await;
    let words = longest(&redis);
    assert!((1..8000).contains(&words), "one command had {words} words");
    let heard = take(&source, 1999).await;
    let expected = (0..2000).filter(|n| *n != 1500);
    assert!(heard.iter().map(number).eq(expected), "they are in another order");
}
