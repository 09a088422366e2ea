//! What of Redis streams a listener can't hear and a member can't be brought: the one is told, the other
//! comes in parts, and where one event alone is too large, what is behind it.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_served/listener.rs"]
mod listener;
#[path = "redis_served/member.rs"]
mod member;

use listener::{LATE, gap, listen, numbers, take, until};
use member::{asked, join, open, publish, with};
use railbus::{
    Event,
    backend::{Leased, Outgoing, Settle, Verdict},
};
use railbus_testbed::{Proxy, Redis};
use std::{sync::Arc, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_before_what_was_heard_is_not_heard_again() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = listen(&backend).await;
    publish(&backend, 0, 3).await;
    assert_eq!(numbers(&take(&source, 3).await), [0, 1, 2]);
    // As a replica does that took over and lacks the end.
    redis.command(&["DEL", "events"]).unwrap();
    redis.command(&["XADD", "events", "5-1", "topic", "ticks", "event", "old"]).unwrap();
    redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
    until(source.fetch(10)).await.expect_err("it was cut off");
    let fetching = Arc::clone(&source);
    let fetching = tokio::spawn(async move { take(&fetching, 1).await });
    until(source.gap()).await;
    publish(&backend, 3, 1).await;
    assert_eq!(numbers(&until(fetching).await.unwrap()), [3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_falls_behind_what_is_kept_is_told_and_who_keeps_up_is_not() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "max_len=100")).await;
    let source = listen(&backend).await;
    for n in 0..20 {
        publish(&backend, n * 100, 100).await;
        take(&source, 100).await;
    }
    assert!(!gap(&source).await);
    for n in 0..200 {
        publish(&backend, n * 100, 100).await;
    }
    let trimmed = async {
        while redis.command(&["XLEN", "events"]).unwrap().parse::<u32>().unwrap() > 10_000 {
            // sleep: nothing tells that another connection has trimmed.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(trimmed).await;
    take(&source, 1).await;
    assert!(gap(&source).await, "what it missed is not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_is_a_gap_for_what_was_missed_may_be_unknown() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = listen(&backend).await;
    publish(&backend, 0, 1).await;
    take(&source, 1).await;
    // sleep: it looks only once it was away for some time.
    tokio::time::sleep(Duration::from_millis(50)).await;
    redis.command(&["ACL", "SETUSER", "default", "-xrange"]).unwrap();
    publish(&backend, 1, 2000).await;
    redis.command(&["XTRIM", "events", "MAXLEN", "100"]).unwrap();
    take(&source, 1).await;
    redis.command(&["ACL", "SETUSER", "default", "+xrange"]).unwrap();
    take(&source, 1).await;
    assert!(gap(&source).await, "1900 events were missed, and nobody says so");
    let looks = asked(&redis, "xrange");
    for n in 0..5 {
        publish(&backend, 3000 + n, 1).await;
        // sleep: as above.
        tokio::time::sleep(Duration::from_millis(50)).await;
        until(async { while !numbers(&take(&source, 1).await).contains(&(3000 + n)) {} }).await;
    }
    assert!(asked(&redis, "xrange") - looks <= 6, "one look each time it was away");
    assert!(!gap(&source).await, "nothing was missed since");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trimmed_while_a_look_is_on_its_way_is_told() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let source = listen(&open(&proxy.url_of(&redis.url("redis-streams"))).await).await;
    publish(&near, 0, 1).await;
    take(&source, 1).await;
    // sleep: it looks only once it was away for some time.
    tokio::time::sleep(Duration::from_millis(50)).await;
    // With nothing to read, the read waits, and the look behind it comes when it has ended.
    let fetching = Arc::clone(&source);
    let fetching = tokio::spawn(async move { take(&fetching, 1).await });
    let waits = async {
        while !is_blocked(&redis) {
            // sleep: nothing tells that a read waits.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    until(waits).await;
    let looks = asked(&redis, "xrange");
    redis.command(&["EVAL", TRIMMED, "1", "events"]).unwrap();
    assert_eq!(until(fetching).await.unwrap().len(), 1);
    assert_eq!(asked(&redis, "xrange") - looks, 1, "the look came after the read");
    assert!(gap(&source).await, "an event was published and trimmed at once");
}

/// Publishes two events of which the first is gone at once.
const TRIMMED: &str = "local e = redis.call('XREVRANGE', KEYS[1], '+', '-')[1][2]
    redis.call('XADD', KEYS[1], '*', unpack(e))
    redis.call('XADD', KEYS[1], '*', unpack(e))
    redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)";

/// Tells whether somebody waits in a read.
fn is_blocked(redis: &Redis) -> bool {
    redis.command(&["INFO", "clients"]).unwrap().contains("blocked_clients:1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_connections_for_too_large_answers_gives_all_of_them() {
    let redis = Redis::start().unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let far = open(&redis.url("redis-streams")).await;
    let source = join(&far, "g", LATE).await;
    let big = |n: u32| Event::new("big").payload((n, "x".repeat(1_000_000))).into();
    let batch: Vec<Outgoing> = (0..16).map(big).collect();
    near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "normal 4mb 0 0"]).unwrap();
    let seen = |all: &[Leased]| -> Vec<u32> {
        let number = |one: &Leased| one.event.as_ref().unwrap().payload::<(u32, String)>();
        let mut numbers: Vec<_> = all.iter().map(|one| number(one).unwrap().0).collect();
        numbers.sort_unstable();
        numbers
    };
    let all = take(&source, 16).await;
    assert_eq!(seen(&all), (0..16).collect::<Vec<_>>());
    // What is tried again comes by claims.
    let nack = |one: &Leased| {
        let verdict = Verdict::Nack { delay: Duration::ZERO };
        Settle::new(one.receipt.clone(), verdict)
    };
    let nacks: Vec<_> = all.iter().map(nack).collect();
    source.settle(&nacks).await.into_iter().for_each(|one| one.unwrap());
    let all = take(&source, 16).await;
    assert_eq!(seen(&all), (0..16).collect::<Vec<_>>());
    assert!(all.iter().all(|one| one.attempt == 2 && !one.lost), "no try counts that nobody made");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_answer_can_bring_holds_up_nothing_behind_it() {
    let redis = Redis::start().unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let far = open(&redis.url("redis-streams")).await;
    let source = join(&far, "g", LATE).await;
    let big: Outgoing = Event::new("big").payload("x".repeat(2_000_000)).into();
    near.publish(&[big]).await.remove(0).unwrap();
    publish(&near, 0, 1).await;
    // What is tried again comes by claims.
    for one in take(&source, 2).await {
        let nack = Settle::new(one.receipt, Verdict::Nack { delay: Duration::ZERO });
        source.settle(&[nack]).await.remove(0).unwrap();
    }
    redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0"]).unwrap();
    publish(&near, 1, 100).await;
    let all = take(&source, 101).await;
    let mut seen = numbers(&all);
    seen.sort_unstable();
    assert_eq!(seen, (0..101).collect::<Vec<_>>());
    let is_right = |one: &Leased| !one.lost && one.attempt <= 2;
    assert!(all.iter().all(is_right), "no try counts that nobody made");
}
