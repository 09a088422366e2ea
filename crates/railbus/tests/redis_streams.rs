//! What redis-streams keeps, and for how long.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

use railbus::{
    Event,
    backend::{Backend, Leased, LetterFilter, Order, Settle, Source, Start, Subscribe, Verdict},
    backends,
    delivery::{End, Try},
    options::Options,
    predicate::Interest,
};
use railbus_testbed::Redis;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

const LEASE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

async fn open(url: &str) -> Arc<dyn Backend> {
    backends::open(Options::parse(url).unwrap()).await.unwrap()
}

fn group(name: &str, lease: Duration) -> Subscribe {
    Subscribe {
        group: Some(name.into()),
        interest: Interest::all(),
        start: Start::Oldest,
        lease,
        order: Order::Any,
    }
}

async fn join(backend: &Arc<dyn Backend>, name: &str, lease: Duration) -> Arc<dyn Source> {
    backend.subscribe(group(name, lease)).await.unwrap()
}

async fn publish(backend: &Arc<dyn Backend>, from: u32, count: u32) {
    let events: Vec<_> = (from..from + count).map(|n| event(n).into()).collect();
    backend.publish(&events).await.into_iter().collect::<railbus::Result<()>>().unwrap();
}

fn event(n: u32) -> Event {
    Event::new("tick").topic("ticks").payload(n)
}

async fn fetch(source: &Arc<dyn Source>, max: usize) -> Vec<Leased> {
    tokio::time::timeout(Duration::from_secs(20), source.fetch(max)).await.expect("late").unwrap()
}

async fn take(source: &Arc<dyn Source>, count: usize) -> Vec<Leased> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(fetch(source, count - all.len()).await);
    }
    all
}

fn number(leased: &Leased) -> u32 {
    leased.event.as_ref().unwrap().payload::<u32>().unwrap()
}

async fn settle(source: &Arc<dyn Source>, leased: &Leased, verdict: Verdict) {
    let batch = [Settle::new(leased.receipt.clone(), verdict)];
    source.settle(&batch).await.pop().unwrap().unwrap();
}

async fn ack(source: &Arc<dyn Source>, all: &[Leased]) {
    for one in all {
        settle(source, one, Verdict::Ack).await;
    }
}

fn len(redis: &Redis) -> u64 {
    redis.command(&["XLEN", "events"]).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn max_len_keeps_what_a_group_has_not_settled_and_no_more() {
    let redis = Redis::start().unwrap();
    let backend = open(&format!("{}?max_len=100", redis.url("redis-streams"))).await;
    let source = join(&backend, "slow", LEASE).await;
    for part in 0..50 {
        publish(&backend, part * 100, 100).await;
    }
    let mut seen = BTreeSet::new();
    let first = take(&source, 1000).await;
    seen.extend(first.iter().map(number));
    // One that is held back does not hold the rest in the stream.
    settle(&source, &first[0], Verdict::Nack { delay: Duration::from_secs(3) }).await;
    ack(&source, &first[1..]).await;
    let rest = take(&source, 4000).await;
    seen.extend(rest.iter().map(number));
    assert_eq!(seen, (0..5000).collect());
    ack(&source, &rest).await;
    for part in 50..80 {
        publish(&backend, part * 100, 100).await;
        ack(&source, &take(&source, 100).await).await;
    }
    let mut trimmed = len(&redis);
    // Trimming is on its way beside what was published last.
    for _ in 0..200 {
        if trimmed < 3000 {
            break;
        }
        // sleep: nothing tells that another connection has trimmed.
        tokio::time::sleep(Duration::from_millis(20)).await;
        trimmed = len(&redis);
    }
    assert!(trimmed < 3000, "{trimmed} of 8000 events are left");
    let again = take(&source, 1).await;
    assert_eq!((number(&again[0]), again[0].attempt), (0, 2), "kept beside the stream");
    ack(&source, &again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trim_hard_bounds_the_stream_whatever_it_loses_and_tells() {
    let redis = Redis::start().unwrap();
    let backend = open(&format!("{}?max_len=100&trim=hard", redis.url("redis-streams"))).await;
    let source = join(&backend, "slow", SHORT).await;
    publish(&backend, 0, 1).await;
    let held = take(&source, 1).await;
    for part in 0..50 {
        publish(&backend, part * 100, 100).await;
    }
    for _ in 0..200 {
        if len(&redis) < 400 {
            break;
        }
        // sleep: nothing tells that another connection has trimmed.
        tokio::time::sleep(Duration::from_millis(20)).await;
        publish(&backend, 9, 100).await;
    }
    assert!(len(&redis) < 400, "{} events are left", len(&redis));
    // What is left comes; what went is no reason to stop.
    let left = take(&source, 50).await;
    assert!(left.iter().all(|one| one.receipt != held[0].receipt));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_settled_go_when_they_are_old_and_the_others_stay() {
    let redis = Redis::start().unwrap();
    let backend = open(&format!("{}?retention=10ms", redis.url("redis-streams"))).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1000).await;
    let all = take(&source, 500).await;
    ack(&source, &all).await;
    // sleep: events get old by time alone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..33 {
        publish(&backend, 1000, 1000).await;
    }
    for _ in 0..200 {
        if len(&redis) < 34_000 - 300 {
            break;
        }
        // sleep: nothing tells that another connection has trimmed.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let left = len(&redis);
    assert!((33_500..33_700).contains(&left), "{left} of 34000 are left, and 33500 are unsettled");
    assert_eq!(number(&take(&source, 1).await[0]), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_s_events_are_claimed_when_their_own_lease_ends_and_not_before() {
    let redis = Redis::start().unwrap();
    let (dead, alive) =
        (open(&redis.url("redis-streams")).await, open(&redis.url("redis-streams")).await);
    let long = Duration::from_secs(2);
    let held = join(&dead, "g", long).await;
    publish(&dead, 7, 1).await;
    let first = take(&held, 1).await;
    let began = std::time::Instant::now();
    // A member whose own leases are short takes nothing of those that are long.
    let other = join(&alive, "g", SHORT).await;
    let again = take(&other, 1).await;
    assert!(began.elapsed() + Duration::from_millis(20) >= long, "{:?}", began.elapsed());
    assert_eq!((number(&again[0]), again[0].attempt, again[0].lost), (7, 2, true));
    let stale = held.settle(&[Settle::new(first[0].receipt.clone(), Verdict::Ack)]).await;
    assert_eq!(stale[0].as_ref().unwrap_err().kind(), railbus::ErrorKind::Stale);
    ack(&other, &again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_count_through_nacks_lost_leases_and_tries_in_place() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", SHORT).await;
    publish(&backend, 0, 1).await;
    let one = take(&source, 1).await;
    settle(&source, &one[0], Verdict::Nack { delay: Duration::ZERO }).await;
    let two = take(&source, 1).await;
    assert_eq!((two[0].attempt, two[0].lost), (2, false));
    // Left alone: its lease runs out.
    let three = take(&source, 1).await;
    assert_eq!((three[0].attempt, three[0].lost), (3, true));
    settle(&source, &three[0], Verdict::Extend { tries: 2 }).await;
    settle(&source, &three[0], Verdict::Release { delay: Duration::ZERO }).await;
    let four = take(&source, 1).await;
    assert_eq!((four[0].attempt, four[0].lost), (5, false), "giving back is free");
    ack(&source, &four).await;
    let keeper = backend.keeper().unwrap();
    assert_eq!(keeper.groups().await.unwrap()[0].lag, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_through_and_what_failed_is_kept_over_deliveries() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 1).await;
    let one = take(&source, 1).await.remove(0);
    let failed = |attempt, reason: &str| Try {
        attempt,
        at: railbus::clock::Timestamp::now(),
        subscription: "charge".into(),
        reason: reason.into(),
    };
    let mut nack = Settle::new(one.receipt, Verdict::Nack { delay: Duration::ZERO });
    nack.ended = vec![("log".into(), End::Done)];
    nack.failed = vec![failed(1, "no\ncard")];
    source.settle(&[nack]).await.remove(0).unwrap();
    let two = take(&source, 1).await.remove(0);
    assert_eq!((two.attempt, &*two.finished), (2, &["log".to_owned()][..]));
    let mut last = Settle::new(two.receipt, Verdict::Ack);
    last.ended = vec![("charge".into(), End::Dead("still none".into()))];
    last.failed = vec![failed(2, "still none")];
    source.settle(&[last]).await.remove(0).unwrap();

    let keeper = backend.keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    let reasons: Vec<_> = letters[0].history.iter().map(|t| &*t.reason).collect();
    assert_eq!((reasons, letters[0].attempts), (vec!["no\ncard", "still none"], 2));
    // Also where the stream has lost it.
    redis.command(&["XTRIM", "events", "MAXLEN", "0"]).unwrap();
    let ids = [letters[0].id.clone()];
    assert_eq!(keeper.redrive(&ids).await.unwrap(), 1);
    assert_eq!(keeper.redrive(&ids).await.unwrap(), 0, "it is handed back once");
    let again = take(&source, 1).await.remove(0);
    assert_eq!((number(&again), again.attempt, &*again.finished), (0, 1, &["log".to_owned()][..]));
    ack(&source, &[again]).await;
    assert_eq!(keeper.groups().await.unwrap()[0].dead_letters, 0);
    assert!(keeper.letters(&LetterFilter::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_entry_is_poison_to_every_group_and_stops_none() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    redis.command(&["XADD", "events", "*", "user", "7", "name", "Ann"]).unwrap();
    redis.command(&["XADD", "events", "*", "topic", "ticks", "event", "{"]).unwrap();
    publish(&backend, 3, 1).await;
    let all = take(&source, 3).await;
    let raw = |at: usize| all[at].event.as_ref().unwrap_err().raw.clone();
    assert_eq!((&*raw(0), &*raw(1), number(&all[2])), (&b"user=7 name=Ann "[..], &b"{"[..], 3));
    ack(&source, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_brings_back_what_was_settled_and_leaves_the_rest_as_it_was() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    publish(&backend, 0, 10).await;
    let all = take(&source, 10).await;
    ack(&source, &all[..6]).await;
    settle(&source, &all[6], Verdict::Nack { delay: Duration::from_millis(300) }).await;
    let keeper = backend.keeper().unwrap();
    assert_eq!(keeper.replay("g", Start::Oldest).await.unwrap(), 6);
    // Whoever holds some goes on with them.
    ack(&source, &all[7..]).await;
    let again = take(&source, 7).await;
    let mut seen: Vec<_> = again.iter().map(|one| (number(one), one.attempt)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2)]);
    // No lease from before settles anything.
    let stale = source.settle(&[Settle::new(all[0].receipt.clone(), Verdict::Ack)]).await;
    assert_eq!(stale[0].as_ref().unwrap_err().kind(), railbus::ErrorKind::Stale);
    ack(&source, &again).await;
    assert_eq!(keeper.groups().await.unwrap()[0].lag, 0);
    assert!(keeper.replay("nobody", Start::Oldest).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_pruned_ends_its_members_with_an_error() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    let fetching = tokio::spawn(async move { source.fetch(1).await });
    let keeper = backend.keeper().unwrap();
    keeper.prune("g").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), fetching).await.unwrap().unwrap();
    let error = ended.expect_err("the group is gone");
    assert_eq!(error.kind(), railbus::ErrorKind::NotFound, "{error:?}");
    assert!(!error.is_retryable());
    // Whoever opens it anew gets it.
    publish(&backend, 1, 1).await;
    assert_eq!(take(&join(&backend, "g", LEASE).await, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_event_comes_once_it_is_due_whoever_dies_meanwhile() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", SHORT).await;
    let began = std::time::Instant::now();
    let delay = Duration::from_millis(600);
    let late = Event::new("tick").topic("ticks").delay(delay).payload(1);
    backend.publish(&[late.into()]).await.remove(0).unwrap();
    publish(&backend, 2, 1).await;
    let first = take(&source, 1).await;
    assert_eq!(number(&first[0]), 2);
    ack(&source, &first).await;
    let second = take(&source, 1).await;
    assert!(began.elapsed() + Duration::from_millis(5) >= delay, "{:?}", began.elapsed());
    assert_eq!((number(&second[0]), second[0].attempt), (1, 1));
    ack(&source, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_start_where_they_are_told() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    publish(&backend, 0, 3).await;
    // sleep: the server's milliseconds are what a time is compared with.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let time = railbus::clock::Timestamp::now();
    publish(&backend, 3, 2).await;
    for (name, start, expected) in
        [("oldest", Start::Oldest, 0), ("at", Start::At(time), 3), ("newest", Start::Newest, 5)]
    {
        let request = Subscribe { start, ..group(name, LEASE) };
        let source = backend.subscribe(request).await.unwrap();
        if start == Start::Newest {
            publish(&backend, 5, 1).await;
        }
        assert_eq!(number(&take(&source, 1).await[0]), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_too_large_is_refused_and_the_largest_goes_through() {
    let redis = Redis::start().unwrap();
    let backend = open(&redis.url("redis-streams")).await;
    let source = join(&backend, "g", LEASE).await;
    let most = backend.capability().payload_max;
    let event = |bytes: usize| Event::new("big").payload("x".repeat(bytes - 2));
    let results = backend.publish(&[event(most + 1).into(), event(most).into()]).await;
    assert_eq!(results[0].as_ref().unwrap_err().kind(), railbus::ErrorKind::TooLarge);
    results[1].as_ref().unwrap();
    let big = take(&source, 1).await;
    assert_eq!(big[0].event.as_ref().unwrap().payload::<String>().unwrap().len(), most - 2);
}
