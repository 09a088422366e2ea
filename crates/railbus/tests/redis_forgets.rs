//! A Redis that has lost what it did last: no lease is given twice, whatever is done again.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_served/member.rs"]
mod member;

use member::{ack, fetch, join, lag, number, open, publish, settle, take, with};
use railbus::{
    ErrorKind, Result,
    backend::{Leased, Settle, Source, Verdict},
};
use railbus_testbed::{Fault, Proxy, Redis};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::timeout;

const LATE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// Has the server remember what it has done so far, and nothing of what it does from here on.
fn remember(redis: &Redis) {
    redis.command(&["SAVE"]).unwrap();
}

/// Kills the server; it comes back as it was when it was to remember.
fn forget(redis: &Redis) {
    redis.kill().unwrap();
    redis.start_again().unwrap();
}

/// Takes events, whatever fails in between.
async fn take_through(source: &Arc<dyn Source>, count: usize) -> Vec<Leased> {
    let taking = async {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(source.fetch(count - all.len()).await.unwrap_or_default());
        }
        all
    };
    timeout(LATE, taking).await.expect("late")
}

/// Settles until the server has said what became of it.
async fn settled(source: &Arc<dyn Source>, leased: &Leased, verdict: Verdict) -> Result<()> {
    let batch = [Settle::new(leased.receipt.clone(), verdict)];
    let settling = async {
        loop {
            match source.settle(&batch).await.remove(0) {
                Err(e) if e.is_retryable() => {}
                said => return said,
            }
        }
    };
    timeout(LATE, settling).await.expect("late")
}

fn is_stale(said: Result<()>) -> bool {
    said.is_err_and(|e| e.kind() == ErrorKind::Stale)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_ack_never_arrived_is_not_handed_out_again() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=300ms")).await;
    let near = open(&redis.url("redis-streams")).await;
    let source = join(&far, "g", LEASE).await;
    publish(&near, 0, 1).await;
    let first = fetch(&source, 10).await.remove(0);
    proxy.fault(Fault::BlackHole);
    let batch = [Settle::new(first.receipt.clone(), Verdict::Ack)];
    let error = source.settle(&batch).await.remove(0).expect_err("nobody has heard of it");
    assert!(error.is_retryable(), "{error:?}");
    // All connections are lost with what is on them: reading begins with what may be unknown here.
    let fetching = Arc::clone(&source);
    let fetching = tokio::spawn(async move { fetching.fetch(10).await });
    proxy.reset();
    proxy.fault(Fault::None);
    drop(fetching.await);
    publish(&near, 1, 1).await;
    let next = take_through(&source, 1).await;
    assert_eq!(next.iter().map(number).collect::<Vec<_>>(), [1], "it still has the first");
    settled(&source, &first, Verdict::Ack).await.unwrap();
    ack(&source, &next).await;
    assert_eq!(lag(&near).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_still_has_is_not_handed_out_to_it_again_by_a_server_that_forgot() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 2).await;
    remember(&redis);
    let held = take(&source, 2).await;
    forget(&redis);
    publish_through(&backend, 2).await;
    let next = take_through(&source, 1).await;
    assert_eq!(next.iter().map(number).collect::<Vec<_>>(), [2]);
    for one in held.iter().chain(&next) {
        settled(&source, one, Verdict::Ack).await.unwrap();
    }
    assert_eq!(lag(&backend).await, 0);
}

async fn publish_through(backend: &Arc<dyn railbus::backend::Backend>, n: u32) {
    let publishing =
        async { while backend.publish(&[member::event(n).into()]).await.remove(0).is_err() {} };
    timeout(LATE, publishing).await.expect("late");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_and_forgotten_comes_under_another_receipt() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    remember(&redis);
    let first = take(&source, 1).await.remove(0);
    settle(&source, &first, Verdict::Ack).await;
    forget(&redis);
    let again = take_through(&source, 1).await.remove(0);
    assert_eq!((number(&again), again.attempt), (0, 1));
    assert_ne!(first.receipt, again.receipt);
    assert!(is_stale(settled(&source, &first, Verdict::Ack).await), "that lease is over");
    settled(&source, &again, Verdict::Ack).await.unwrap();
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_forgotten_is_not_made_again_under_its_fence() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    let first = take(&source, 1).await.remove(0);
    settle(&source, &first, Verdict::Nack { delay: Duration::ZERO }).await;
    remember(&redis);
    let mut seen = HashSet::from([first.receipt]);
    for _ in 0..2 {
        let claimed = take_through(&source, 1).await.remove(0);
        assert_eq!(claimed.attempt, 2);
        assert!(seen.insert(claimed.receipt.clone()), "it was given before");
        forget(&redis);
        assert!(is_stale(settled(&source, &claimed, Verdict::Ack).await), "nobody knows of it");
    }
    let last = take_through(&source, 1).await.remove(0);
    settled(&source, &last, Verdict::Ack).await.unwrap();
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_forgotten_settles_nothing_of_the_member_that_has_the_event_now() {
    let redis = Redis::start().unwrap();
    let url = with(&redis.url("redis-streams"), "timeout=2s");
    let (here, there) = (open(&url).await, open(&url).await);
    let (a, b) = (join(&here, "g", LEASE).await, join(&there, "g", LEASE).await);
    publish(&here, 0, 4).await;
    remember(&redis);
    let mut forgotten = take(&a, 4).await;
    forget(&redis);
    let held = take_through(&b, 4).await;
    let given = |all: &[Leased]| all.iter().map(|one| one.receipt.clone()).collect::<HashSet<_>>();
    assert!(given(&forgotten).is_disjoint(&given(&held)));
    let nack = Verdict::Nack { delay: Duration::ZERO };
    let verdicts = [Verdict::Ack, nack, Verdict::Extend { tries: 0 }];
    for verdict in verdicts.into_iter().chain([Verdict::Extend { tries: 1 }]) {
        let said = settled(&a, &forgotten.remove(0), verdict.clone()).await;
        assert!(is_stale(said), "{verdict:?}");
    }
    for one in &held {
        settled(&b, one, Verdict::Ack).await.unwrap();
    }
    assert_eq!(lag(&there).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_took_its_event_on_by_tries_in_place_settles_it() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", SHORT).await;
    publish(&backend, 0, 2).await;
    let both = take(&source, 2).await;
    for one in &both {
        settle(&source, one, Verdict::Extend { tries: 1 }).await;
        settle(&source, one, Verdict::Extend { tries: 0 }).await;
    }
    settle(&source, &both[0], Verdict::Ack).await;
    settle(&source, &both[1], Verdict::Nack { delay: Duration::ZERO }).await;
    let again = take(&source, 1).await.remove(0);
    assert_eq!((number(&again), again.attempt), (1, 3));
    assert!(is_stale(settled(&source, &both[1], Verdict::Ack).await));
    settle(&source, &again, Verdict::Ack).await;
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_outlive_a_connection_that_is_cut_and_a_replay() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let backend = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 4).await;
    let held = take(&source, 4).await;
    proxy.reset();
    settled(&source, &held[0], Verdict::Ack).await.unwrap();
    settled(&source, &held[1], Verdict::Extend { tries: 0 }).await.unwrap();
    settled(&source, &held[1], Verdict::Ack).await.unwrap();
    backend.keeper().unwrap().replay("g", railbus::backend::Start::Newest).await.unwrap();
    for one in &held[2..] {
        settled(&source, one, Verdict::Ack).await.unwrap();
    }
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_may_have_been_done_is_done_once_more_by_a_server_that_forgot() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    remember(&redis);
    let first = take(&source, 1).await.remove(0);
    redis.kill().unwrap();
    let batch = [Settle::new(first.receipt.clone(), Verdict::Ack)];
    assert!(source.settle(&batch).await.remove(0).expect_err("nobody is there").is_retryable());
    redis.start_again().unwrap();
    // Nobody has read it, the server says: it is read once more, and nobody else is given it.
    settled(&source, &first, Verdict::Ack).await.unwrap();
    assert_eq!(lag(&backend).await, 0);
    publish_through(&backend, 1).await;
    let next = take_through(&source, 1).await;
    assert_eq!(next.iter().map(number).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_before_anything_is_read_of_a_server_that_forgot_stays_in_hand() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 3).await;
    remember(&redis);
    let held = take(&source, 2).await;
    forget(&redis);
    // There is no room for more: nothing is fetched until one of them is through.
    settled(&source, &held[0], Verdict::Extend { tries: 0 }).await.unwrap();
    publish_through(&backend, 3).await;
    let next = take_through(&source, 2).await;
    let mut numbers: Vec<_> = next.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3], "what is in hand comes to nobody");
    assert!(next.iter().all(|one| one.attempt == 1), "what was given back was begun by nobody");
    for one in held.iter().chain(&next) {
        settled(&source, one, Verdict::Ack).await.unwrap();
    }
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_forgotten_whole_is_settled_by_nobody() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    remember(&redis);
    publish(&backend, 0, 1).await;
    let lost = take(&source, 1).await.remove(0);
    forget(&redis);
    for verdict in [Verdict::Extend { tries: 0 }, Verdict::Ack] {
        assert!(is_stale(settled(&source, &lost, verdict).await), "there is no such event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_is_said_so_although_what_was_forgotten_beside_it_fails() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "timeout=2s")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    let first = take(&source, 1).await.remove(0);
    settle(&source, &first, Verdict::Nack { delay: Duration::ZERO }).await;
    let first = take(&source, 1).await.remove(0);
    publish(&backend, 1, 1).await;
    remember(&redis);
    let forgotten = take(&source, 1).await.remove(0);
    forget(&redis);
    // Both connections are made again, and nothing is read yet.
    redis.command(&["ACL", "SETUSER", "default", "-xreadgroup"]).unwrap();
    let is_back = |error: railbus::Error| error.kind() == ErrorKind::Denied;
    let back = async { while !source.fetch(1).await.is_err_and(is_back) {} };
    timeout(LATE, back).await.expect("late");
    // Only what was read and not touched since is taken from the consumer group.
    redis.command(&["ACL", "SETUSER", "default", "+xreadgroup", "-xack"]).unwrap();
    let batch = [
        Settle::new(first.receipt, Verdict::Release { delay: Duration::ZERO }),
        Settle::new(forgotten.receipt, Verdict::Extend { tries: 1 }),
    ];
    let mut said = source.settle(&batch).await;
    let second = said.remove(1).expect_err("it may not");
    assert_eq!(second.kind(), ErrorKind::Denied, "{second:?}");
    said.remove(0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_is_said_so_although_what_is_settled_behind_it_fails() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    let now = Duration::ZERO;
    publish(&backend, 0, 256).await;
    let all = take(&source, 256).await;
    let nacks = all.into_iter().map(|one| Settle::new(one.receipt, Verdict::Nack { delay: now }));
    let nacks: Vec<_> = nacks.collect();
    source.settle(&nacks).await.into_iter().for_each(|one| one.unwrap());
    let mut all = take(&source, 256).await;
    publish(&backend, 256, 1).await;
    all.extend(take(&source, 1).await);
    redis.command(&["ACL", "SETUSER", "default", "-xack"]).unwrap();
    let release = |one: Leased| Settle::new(one.receipt, Verdict::Release { delay: now });
    let releases: Vec<_> = all.into_iter().map(release).collect();
    let mut said = source.settle(&releases).await;
    let last = said.pop().unwrap().expect_err("it may not");
    assert_ne!(last.kind(), ErrorKind::Stale, "{last:?}");
    said.into_iter().for_each(|one| one.unwrap());
}
