//! What a group on Redis streams makes of others' hands on its keys, and of its own past.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_served/member.rs"]
mod member;

use member::{ack, dead, fetch, group, join, lag, number, open, publish, settle, take};
use railbus::{
    ErrorKind,
    backend::{LetterFilter, Settle, Subscribe, Verdict},
    predicate::{Interest, topic},
};
use railbus_testbed::Redis;
use std::{collections::BTreeSet, time::Duration};

const LEASE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_thousands_of_fields_becomes_a_dead_letter_and_comes_back() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    let fields: Vec<_> = (0..10_000).map(|n| n.to_string()).collect();
    let mut command = vec!["XADD", "events", "*"];
    command.extend(fields.iter().map(String::as_str));
    redis.command(&command).unwrap();
    let one = take(&source, 1).await.remove(0);
    source.settle(&[dead(one.receipt)]).await.remove(0).unwrap();
    redis.command(&["XTRIM", "events", "MAXLEN", "0"]).unwrap();
    let keeper = backend.keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(keeper.redrive(&[letters[0].id.clone()]).await.unwrap(), 1);
    let again = take(&source, 1).await.remove(0);
    let raw = &again.event.as_ref().unwrap_err().raw;
    assert!(raw.starts_with(b"0=1 2=3 ") && raw.ends_with(b"9998=9999 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_from_before_a_group_was_pruned_settles_nothing_after() {
    let redis = Redis::start().unwrap();
    let (one, other) =
        (open(&redis.url("redis-streams")).await, open(&redis.url("redis-streams")).await);
    let before = join(&one, "g", LEASE).await;
    publish(&one, 0, 1).await;
    let old = take(&before, 1).await;
    other.keeper().unwrap().prune("g").await.unwrap();
    let after = join(&other, "g", LEASE).await;
    let new = take(&after, 1).await;
    for verdict in [Verdict::Ack, Verdict::Nack { delay: Duration::ZERO }] {
        let result = before.settle(&[Settle::new(old[0].receipt.clone(), verdict)]).await.remove(0);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Stale);
    }
    assert_eq!(lag(&other).await, 1);
    settle(&after, &new[0], Verdict::Nack { delay: Duration::ZERO }).await;
    assert_eq!(take(&after, 1).await[0].attempt, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_group_that_is_deleted_goes_on_near_where_it_was() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", SHORT).await;
    publish(&backend, 0, 500).await;
    let all = take(&source, 500).await;
    ack(&source, &all[..498]).await;
    settle(&source, &all[498], Verdict::Nack { delay: Duration::from_secs(2) }).await;
    // A look notes the place, once what was read is another's.
    let again = take(&source, 1).await;
    assert_eq!(number(&again[0]), 499);
    redis.command(&["XGROUP", "DESTROY", "events", "g"]).unwrap();
    publish(&backend, 500, 1).await;
    let mut seen = BTreeSet::new();
    while !seen.contains(&500) || !seen.contains(&498) {
        for one in fetch(&source, 64).await {
            seen.insert(number(&one));
            ack(&source, &[one]).await;
        }
    }
    // One was tried and stays what it was; what was settled long ago does not come again.
    assert!(seen.iter().all(|n| *n >= 490), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_and_nobody_s_topic_is_settled() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let interest = topic("a").interest();
    let request = Subscribe { interest: interest.clone(), ..group("g", SHORT) };
    let source = backend.subscribe(request.clone()).await.unwrap();
    let dying = backend.subscribe(request).await.unwrap();
    redis.command(&["XADD", "events", "*", "topic", "b", "event", "{"]).unwrap();
    // Its first reader died before it put it aside.
    let members = redis.command(&["HKEYS", "{events}:m:g"]).unwrap();
    let name = members.lines().next().unwrap();
    redis.command(&["XREADGROUP", "GROUP", "g", name, "STREAMS", "events", ">"]).unwrap();
    drop(dying);
    let idle = async {
        loop {
            let fetching = tokio::time::timeout(Duration::from_millis(200), source.fetch(1));
            if lag(&backend).await == 0 {
                return;
            }
            assert!(fetching.await.is_err(), "nobody wants it");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), idle).await.expect("it stays for ever");
    let all = [("g".into(), Interest::all())];
    let settled = backend.settled(&all);
    tokio::time::timeout(Duration::from_secs(20), settled).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_letter_ends_no_listing() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    for n in 0..300 {
        redis.command(&["XADD", "{events}:dead", "*", "odd", &n.to_string()]).unwrap();
    }
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    let one = take(&source, 1).await.remove(0);
    source.settle(&[dead(one.receipt)]).await.remove(0).unwrap();
    let keeper = backend.keeper().unwrap();
    let filter = LetterFilter::default();
    let letters = tokio::time::timeout(Duration::from_secs(20), keeper.letters(&filter));
    assert_eq!(letters.await.expect("it never ends").unwrap().len(), 1);
}
