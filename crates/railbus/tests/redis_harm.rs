//! What a group on Redis streams keeps through answers that are lost, scripts that may not finish, a
//! server that is full.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_served/member.rs"]
mod member;

use member::{
    ack, dead, event, failed, group, join, lag, number, open, publish, settle, take, with,
};
use railbus::{
    ErrorKind, Event,
    backend::{LetterFilter, Settle, Source, Subscribe, Verdict},
    predicate::topic,
};
use railbus_testbed::{Fault, Proxy, Redis};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

const LEASE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_can_t_be_written_leaves_the_event_where_it_was() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", SHORT).await;
    publish(&backend, 0, 1).await;
    // What takes the place of the dead letters is no stream: the script ends in its middle.
    redis.command(&["SET", "{events}:dead", "x"]).unwrap();
    let one = take(&source, 1).await.remove(0);
    let error = source.settle(&[dead(one.receipt)]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    redis.command(&["DEL", "{events}:dead"]).unwrap();
    let again = take(&source, 1).await.remove(0);
    assert_eq!((number(&again), again.attempt), (0, 2));
    source.settle(&[dead(again.receipt)]).await.remove(0).unwrap();
    let letters = backend.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(lag(&backend).await, 0);
}

/// Cuts the connections once the server has done what was asked, so that its answer is lost.
async fn lose_the_answer(
    redis: &Redis,
    proxy: &Proxy,
    asked: tokio::task::JoinHandle<railbus::Result<Vec<railbus::backend::Leased>>>,
    done: impl Fn(&Redis) -> bool,
) {
    let seen = async {
        while !done(redis) {
            // sleep: nothing tells that the server has done it.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("it was never done");
    proxy.reset();
    proxy.fault(Fault::None);
    let error = asked.await.unwrap().expect_err("its answer was lost");
    assert!(error.is_retryable(), "{error:?}");
}

/// Takes events, whatever fails in between.
async fn take_through(source: &Arc<dyn Source>, count: usize) -> Vec<railbus::backend::Leased> {
    let taking = async {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(source.fetch(count - all.len()).await.unwrap_or_default());
        }
        all
    };
    tokio::time::timeout(Duration::from_secs(20), taking).await.expect("late")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_costs_its_events_no_attempt() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=5s")).await;
    let source = join(&far, "g", LEASE).await;
    publish(&far, 0, 3).await;
    for one in take(&source, 3).await {
        settle(&source, &one, Verdict::Release { delay: Duration::ZERO }).await;
    }
    // sleep: until it is time to look, it only reads.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    // What the server says comes too late for anybody.
    proxy.fault(Fault::HalfOpen);
    let asking = Arc::clone(&source);
    let asked = tokio::spawn(async move { asking.fetch(10).await });
    let leased = |redis: &Redis| {
        let state = redis.command(&["HVALS", "{events}:d:g"]).unwrap();
        state.lines().filter(|line| line.contains(" 1 0")).count() == 3
    };
    lose_the_answer(&redis, &proxy, asked, leased).await;
    let again = take_through(&source, 3).await;
    let seen: Vec<_> = again.iter().map(|one| (number(one), one.attempt, one.lost)).collect();
    assert_eq!(seen, [(0, 1, false), (1, 1, false), (2, 1, false)]);
    ack(&source, &again).await;
    assert_eq!(lag(&far).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_handed_out_though_what_came_after_the_read_failed() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    // One is held back, which is written beside the stream: where something else is.
    let late = Event::new("tick").topic("ticks").delay(Duration::from_millis(1)).payload(7);
    let first = event(0).into();
    backend.publish(&[first, late.into()]).await.into_iter().for_each(|one| one.unwrap());
    redis.command(&["SET", "{events}:d:g", "x"]).unwrap();
    let mut errors = 0;
    while errors < 2 {
        errors += u32::from(source.fetch(10).await.is_err());
    }
    redis.command(&["DEL", "{events}:d:g"]).unwrap();
    let all = take(&source, 2).await;
    let seen: BTreeSet<_> = all.iter().map(|one| (number(one), one.attempt, one.lost)).collect();
    assert_eq!(seen, [(0, 1, false), (7, 1, false)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_a_member_can_t_handle_stand_before_none_that_it_can() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let of = |name: &str| Subscribe { interest: topic(name).interest(), ..group("g", LEASE) };
    let (a, b) = (of("a"), of("b"));
    // The group wants both, and whoever can handle `b` is away.
    let away = backend.subscribe(b.clone()).await.unwrap();
    away.close().await.unwrap();
    let source = backend.subscribe(a).await.unwrap();
    let on = |topic: &str, n| Event::new("tick").topic(topic).payload(n);
    let mut batch = vec![on("a", 0).into()];
    batch.extend((1..=2500).map(|n| on("b", n).into()));
    backend.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    let mine = take(&source, 1).await.remove(0);
    settle(&source, &mine, Verdict::Nack { delay: Duration::from_millis(300) }).await;
    // It comes again and again, whatever has been read and left meanwhile.
    let again = loop {
        let again = take(&source, 1).await.remove(0);
        assert_eq!(number(&again), 0);
        if redis.command(&["ZCARD", "{events}:x:g"]).unwrap() == "2500" {
            break again;
        }
        settle(&source, &again, Verdict::Nack { delay: Duration::from_millis(300) }).await;
    };
    settle(&source, &again, Verdict::Nack { delay: Duration::ZERO }).await;
    let again = take(&source, 1).await;
    assert_eq!(number(&again[0]), 0, "they are in its way");
    ack(&source, &again).await;
    // Who can handle them gets them all, once each, whoever left them.
    let other = backend.subscribe(b).await.unwrap();
    let rest = take(&other, 2500).await;
    let numbers: BTreeSet<_> = rest.iter().map(number).collect();
    assert_eq!((rest.len(), numbers), (2500, (1..=2500).collect()));
    assert!(rest.iter().all(|one| one.attempt == 1 && !one.lost));
    ack(&other, &rest).await;
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_drained() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", SHORT).await;
    publish(&backend, 0, 300).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let result = backend.publish(&[event(1).into()]).await.remove(0);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Full);
    let mut all = take(&source, 300).await;
    // Those that failed, as well as those that were left alone.
    let nack = Settle::new(all[0].receipt.clone(), Verdict::Nack { delay: Duration::ZERO });
    source.settle(&[nack]).await.remove(0).unwrap();
    let again = take(&source, 1).await;
    assert_eq!((number(&again[0]), again[0].attempt), (number(&all[0]), 2));
    ack(&source, &again).await;
    let lost = all.pop().unwrap();
    ack(&source, &all[1..]).await;
    let again = take(&source, 1).await;
    assert_eq!((number(&again[0]), again[0].lost), (number(&lost), true));
    ack(&source, &again).await;
    assert_eq!(lag(&backend).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_comes_in_portions_that_the_way_can_carry() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=500ms")).await;
    let source = join(&far, "g", LEASE).await;
    let big = |n: u32| Event::new("tick").topic("ticks").payload((n, "x".repeat(80_000)));
    let batch: Vec<_> = (0..40).map(|n| big(n).into()).collect();
    near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    // Half of it takes longer than an answer may.
    proxy.fault(Fault::Trickle { bytes_per_second: 1_000_000 });
    let mut seen = BTreeSet::new();
    let late = Instant::now() + Duration::from_secs(50);
    while seen.len() < 40 {
        assert!(Instant::now() < late, "{} came", seen.len());
        // What fails is asked for again in smaller portions.
        let Ok(some) = source.fetch(64).await else { continue };
        for one in some {
            let (n, _) = one.event.as_ref().unwrap().payload::<(u32, String)>().unwrap();
            assert!(seen.insert(n) && one.attempt == 1, "{n} came again, {}", one.attempt);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_whose_answers_are_lost_are_done_and_nothing_comes_twice() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=5s")).await;
    let source = join(&far, "g", LEASE).await;
    publish(&far, 0, 4).await;
    let all = take(&source, 4).await;
    proxy.fault(Fault::HalfOpen);
    let acks: Vec<_> =
        all[..3].iter().map(|one| Settle::new(one.receipt.clone(), Verdict::Ack)).collect();
    let (settling, batch) = (Arc::clone(&source), acks.clone());
    let asked = tokio::spawn(async move {
        let results = settling.settle(&batch).await;
        results.into_iter().map(|one| one.map(|()| Vec::new())).next().unwrap()
    });
    let done = |redis: &Redis| {
        redis.command(&["XPENDING", "events", "g"]).unwrap().lines().next() == Some("1")
    };
    lose_the_answer(&redis, &proxy, asked, done).await;
    // Reading begins with what a lost answer may have held: nothing of that is in doubt here.
    publish(&far, 4, 1).await;
    assert_eq!(number(&take_through(&source, 1).await[0]), 4);
    for result in source.settle(&acks).await {
        result.expect("it was settled by the try whose answer was lost");
    }
    let stale = source.settle(&acks[..1]).await.remove(0);
    assert_eq!(stale.unwrap_err().kind(), ErrorKind::Stale, "it is known to be settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_only_those_are_stale_that_are() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 3).await;
    let all = take(&source, 3).await;
    let acks: Vec<_> =
        all.iter().map(|one| Settle::new(one.receipt.clone(), Verdict::Ack)).collect();
    // By another's hand one is a member's again whose clock runs otherwise.
    let ids = redis.command(&["XRANGE", "events", "-", "+", "COUNT", "1"]).unwrap();
    let id = ids.lines().next().unwrap();
    redis.command(&["XACK", "events", "g", id]).unwrap();
    redis.command(&["HSET", "{events}:d:g", id, "2 1 1 1"]).unwrap();
    let results = source.settle(&acks).await;
    let stale: Vec<_> = results.iter().map(Result::is_err).collect();
    assert_eq!(stale, [true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_twice_counts_once() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    let one = take(&source, 1).await.remove(0);
    let mut extend = Settle::new(one.receipt.clone(), Verdict::Extend { tries: 1 });
    extend.failed = vec![failed(1, "first")];
    let mut nack = Settle::new(one.receipt, Verdict::Nack { delay: Duration::ZERO });
    nack.failed = vec![failed(2, "second")];
    // As the engine does it when the first answer is lost.
    for said in [&extend, &extend, &nack, &nack] {
        source.settle(std::slice::from_ref(said)).await.remove(0).unwrap();
    }
    let again = take(&source, 1).await.remove(0);
    assert_eq!(again.attempt, 3);
    let last = dead(again.receipt);
    for _ in 0..2 {
        source.settle(std::slice::from_ref(&last)).await.remove(0).unwrap();
    }
    let letters = backend.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    let reasons: Vec<_> = letters[0].history.iter().map(|one| &*one.reason).collect();
    assert_eq!((letters.len(), reasons), (1, vec!["first", "second", "no"]));
}
