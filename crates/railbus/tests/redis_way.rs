//! Redis by way of a network that is slow, silent or cut: what is published comes through, and what
//! was not heard is told.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_served/listener.rs"]
mod listener;
#[path = "redis_served/member.rs"]
mod member;

use listener::{LATE, gap, listen, numbers, take, until};
use member::{asked, event, open, publish, with};
use railbus::{
    Bus, Event,
    backend::{Order, Outgoing, Start, Subscribe},
};
use railbus_testbed::{Fault, Proxy, Redis};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_silent_connection_whether_all_is_quiet_leaves_nobody_deaf() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let url = with(&proxy.url_of(&redis.url("redis")), "timeout=300ms&connect_timeout=500ms");
    let (far, near) =
        (Bus::open(&url).await.unwrap(), Bus::open(redis.url("redis")).await.unwrap());
    let (says, mut heard) = mpsc::unbounded_channel();
    let say = move |event: &Event| says.send(event.payload::<u32>().unwrap()).unwrap_or(());
    far.on("tick").run(say).await.unwrap();
    near.publish(Event::new("tick").payload(1)).await.unwrap();
    assert_eq!(until(heard.recv()).await, Some(1));
    proxy.fault(Fault::HalfOpen);
    for _ in 0..2 {
        assert!(!matches!(far.is_quiet().await, Ok(true)), "nobody can know");
    }
    proxy.fault(Fault::None);
    let back = async {
        while heard.try_recv().is_err() {
            near.publish(Event::new("tick").payload(2)).await.unwrap();
            // sleep: what is published before it listens again is missed, and nothing tells when.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    until(back).await;
    assert!(far.gaps() > 0);
    assert!(until(async { far.idle().await.is_ok() }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_cut_off_says_so_and_then_that_it_missed_something() {
    for scheme in ["redis", "redis-streams"] {
        let redis = Redis::start().unwrap();
        let proxy = Proxy::to(redis.address()).unwrap();
        let near = open(&redis.url(scheme)).await;
        let far = open(&with(&proxy.url_of(&redis.url(scheme)), "timeout=300ms")).await;
        let source = listen(&far).await;
        publish(&near, 1, 1).await;
        assert_eq!(numbers(&take(&source, 1).await), [1], "{scheme}");
        assert!(!gap(&source).await, "{scheme}");
        proxy.fault(Fault::Refuse);
        let error = until(source.fetch(10)).await.expect_err("nothing is heard");
        assert!(error.is_retryable(), "{scheme}: {error:?}");
        proxy.fault(Fault::None);
        let fetching = Arc::clone(&source);
        let fetching = tokio::spawn(async move { take(&fetching, 1).await });
        until(source.gap()).await;
        publish(&near, 2, 1).await;
        assert_eq!(numbers(&until(fetching).await.unwrap()), [2], "{scheme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_disconnect_is_one_gap() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis")), "timeout=2s")).await;
    let source = listen(&far).await;
    let before = proxy.accepted();
    // It is asked while the connection breaks: both are told of it.
    proxy.fault(Fault::HalfOpen);
    let asking = Arc::clone(&source);
    let asking = tokio::spawn(async move { asking.handed_out().await });
    // sleep: the question must be on its way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.fault(Fault::None);
    proxy.reset();
    until(asking).await.unwrap().unwrap();
    until(source.gap()).await;
    let near = open(&redis.url("redis")).await;
    publish(&near, 1, 1).await;
    take(&source, 1).await;
    while gap(&source).await {}
    assert!(proxy.accepted() - before <= 1, "it was connected again once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changed_ends_broadcasts_with_an_error() {
    for scheme in ["redis", "redis-streams"] {
        let redis = Redis::options().password("old").start().unwrap();
        let bus = Bus::open(redis.url(scheme)).await.unwrap();
        bus.on("tick").run(|_: &Event| ()).await.unwrap();
        redis.command(&["CONFIG", "SET", "requirepass", "new"]).unwrap();
        for kind in ["normal", "pubsub"] {
            redis.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).unwrap();
        }
        let error = until(bus.failed()).await;
        assert_eq!(error.kind(), railbus::ErrorKind::Denied, "{scheme}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_broadcasts_outlive_a_connection_that_breaks_when_they_are_due() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=500ms")).await;
    let near = open(&redis.url("redis-streams")).await;
    let source = listen(&far).await;
    let second = Duration::from_secs(1);
    let late = |n| Event::new("tick").topic("ticks").delay(second).payload(n).into();
    let batch: Vec<Outgoing> = (0..40u32).map(late).collect();
    near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    publish(&near, 99, 1).await;
    assert_eq!(numbers(&take(&source, 1).await), [99], "it has read them all");
    proxy.fault(Fault::HalfOpen);
    // What is due is asked for, and the answers don't come.
    let failed = async { while source.fetch(256).await.is_ok() {} };
    until(failed).await;
    proxy.reset();
    proxy.fault(Fault::None);
    assert_eq!(numbers(&take(&source, 40).await), (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_far_away_reads_past_what_others_publish_in_few_round_trips() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let far = open(&proxy.url_of(&redis.url("redis-streams"))).await;
    let request = Subscribe {
        group: None,
        interest: railbus::predicate::topic("mine").interest(),
        start: Start::Newest,
        lease: LATE,
        order: Order::Any,
    };
    let source = far.subscribe(request).await.unwrap();
    let (reads, looks) = (asked(&redis, "xread"), asked(&redis, "xrange"));
    let other = |n: u32| Event::new("tick").topic("others").payload(n).into();
    let batch: Vec<Outgoing> = (0..1000).map(other).collect();
    for _ in 0..30 {
        near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    }
    let mine = |n: u32| Event::new("tick").topic("mine").payload(n).into();
    let batch: Vec<Outgoing> = (0..600).map(mine).collect();
    near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    proxy.fault(Fault::Latency(Duration::from_millis(10)));
    let mut all = Vec::new();
    while all.len() < 600 {
        let some = until(source.fetch(256)).await.unwrap();
        assert!(some.len() <= 256, "{} came at once", some.len());
        all.extend(some);
    }
    assert_eq!(numbers(&all), (0..600).collect::<Vec<_>>());
    let trips = (asked(&redis, "xread") - reads, asked(&redis, "xrange") - looks);
    assert!(trips.0 <= 20 && trips.1 <= 20, "{trips:?} for 30600 events");
    let handed_out = until(source.handed_out()).await.unwrap();
    assert_eq!(handed_out, Some(600));
    assert!(!gap(&source).await, "nothing was missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_and_not_handed_out_yet_is_in_hand_and_bounded() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let source = listen(&open(&proxy.url_of(&redis.url("redis-streams"))).await).await;
    let big = |n: u32| Event::new("big").payload((n, "x".repeat(100_000))).into();
    for round in 0..40 {
        let batch: Vec<Outgoing> = (0..10).map(|n| big(round * 10 + n)).collect();
        near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    }
    let (mut seen, mut came, mut most) = (0, proxy.bytes(), 0);
    while seen < 400 {
        let some = until(source.fetch(3)).await.unwrap();
        assert!(some.len() <= 3, "{} came at once", some.len());
        for one in some {
            let (n, _) = one.event.unwrap().payload::<(u32, String)>().unwrap();
            assert_eq!(n, seen);
            seen += 1;
        }
        let bytes = proxy.bytes();
        (came, most) = (bytes, most.max(bytes - came));
        let handed_out = until(source.handed_out()).await.unwrap();
        assert_eq!(handed_out, (seen == 400).then_some(400), "{seen} of 400 were handed out");
    }
    // By their number it would be 12.8 MB.
    assert!((5_000_000..10_000_000).contains(&most), "{most} bytes at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_waits_for_what_is_in_hand() {
    let redis = Redis::start().unwrap();
    for scheme in ["redis", "redis-streams"] {
        let (near, far) = (
            Bus::open(redis.url(scheme)).await.unwrap(),
            Bus::open(redis.url(scheme)).await.unwrap(),
        );
        let handled = Arc::<AtomicU32>::default();
        let count = Arc::clone(&handled);
        let each = move |_: &Event| {
            count.fetch_add(1, SeqCst);
        };
        far.on("tick").run(each).await.unwrap();
        let text = "x".repeat(50_000);
        let batch: Vec<Outgoing> =
            (0..100).map(|_| Event::new("tick").payload(text.clone()).into()).collect();
        for round in 1..=10 {
            near.publish_all(&batch).await.into_iter().for_each(|one| drop(one.unwrap()));
            until(far.idle()).await.unwrap();
            assert_eq!(handled.load(SeqCst), round * 100, "{scheme}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_takes_longer_than_an_answer_may_comes_through() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=4s")).await;
    proxy.fault(Fault::Trickle { bytes_per_second: 2_500_000 });
    let big = |n: u32| Event::new("big").payload((n, "x".repeat(400_000))).into();
    let batch: Vec<Outgoing> = (0..30).map(big).collect();
    for result in until(far.publish(&batch)).await {
        result.unwrap();
    }
    assert_eq!(redis.command(&["XLEN", "events"]).unwrap(), "30", "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_may_take_longer_than_an_answer() {
    let redis = Redis::options().tls(true).start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=250ms")).await;
    publish(&far, 0, 1).await;
    proxy.fault(Fault::Latency(Duration::from_millis(80)));
    proxy.reset();
    let again = async { while far.publish(&[event(1).into()]).await.remove(0).is_err() {} };
    until(again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_as_fast_as_it_comes() {
    let redis = Redis::start().unwrap();
    let backend = open(&with(&redis.url("redis-streams"), "retention=10ms")).await;
    let batch: Vec<Outgoing> = (0..1000).map(|n| event(n).into()).collect();
    for _ in 0..120 {
        backend.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    }
    let trimmed = async {
        while redis.command(&["XLEN", "events"]).unwrap().parse::<u32>().unwrap() > 40_000 {
            // sleep: nothing tells that another connection has trimmed.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(4), trimmed)
        .await
        .expect("120000 were published, and too many stay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_was_away_takes_what_weighs_more_than_before_in_bounded_parts() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let near = open(&redis.url("redis-streams")).await;
    let source = listen(&open(&proxy.url_of(&redis.url("redis-streams"))).await).await;
    for n in 0..4 {
        publish(&near, n * 1000, 1000).await;
    }
    take(&source, 4000).await;
    let big = |n: u32| Event::new("big").payload((n, "x".repeat(200_000))).into();
    let batch: Vec<Outgoing> = (0..20).map(big).collect();
    for _ in 0..20 {
        near.publish(&batch).await.into_iter().for_each(|one| one.unwrap());
    }
    let (mut heard, mut came, mut most) = (0, proxy.bytes(), 0);
    while heard < 400 {
        heard += until(source.fetch(256)).await.unwrap().len();
        let bytes = proxy.bytes();
        (most, came) = (most.max(bytes - came), bytes);
    }
    assert!(most < 16 << 20, "{most} bytes came in one answer");
}
