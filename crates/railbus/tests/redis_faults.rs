//! Redis that is killed, hangs, is cut off, forgets or is full: what was confirmed is there, what
//! can't be done is said, and all goes on by itself.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Error, ErrorKind, Event, Retry};
use railbus_testbed::{Fault, Proxy, Redis};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::timeout};

const LATE: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Bus {
    Bus::open(url).await.unwrap()
}

fn with(url: &str, settings: &str) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{settings}")
}

/// Subscribes to ticks and returns their numbers as they are handled.
async fn hear(bus: &Bus, group: Option<&str>) -> mpsc::UnboundedReceiver<u32> {
    let (says, heard) = mpsc::unbounded_channel();
    let mut on = bus.on("tick").retry(Retry::attempts(1));
    if let Some(group) = group {
        on = on.group(group);
    }
    let say = move |event: &Event| says.send(event.payload::<u32>().unwrap()).unwrap_or(());
    on.run(say).await.unwrap();
    heard
}

async fn publish(bus: &Bus, n: u32) -> Result<(), Error> {
    bus.publish(Event::new("tick").payload(n)).await.map(drop)
}

/// Publishes until it is confirmed.
async fn confirmed(bus: &Bus, n: u32) {
    let again = async {
        while let Err(error) = publish(bus, n).await {
            assert!(error.is_retryable(), "{error:?}");
        }
    };
    timeout(LATE, again).await.expect("never confirmed");
}

async fn until(heard: &mut mpsc::UnboundedReceiver<u32>, n: u32) {
    let found = async { while heard.recv().await.unwrap() != n {} };
    timeout(LATE, found).await.unwrap_or_else(|_| panic!("{n} was not heard"));
}

/// Publishes numbers until told to stop; returns those that were confirmed.
fn publishing(bus: &Bus) -> (Arc<AtomicBool>, tokio::task::JoinHandle<BTreeSet<u32>>) {
    let (stop, bus) = (Arc::<AtomicBool>::default(), bus.clone());
    let stopped = Arc::clone(&stop);
    let numbers = Arc::new(AtomicU32::new(0));
    let publishing = tokio::spawn(async move {
        let confirmed = Arc::<Mutex<BTreeSet<u32>>>::default();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (bus, stopped) = (bus.clone(), Arc::clone(&stopped));
            let (confirmed, numbers) = (Arc::clone(&confirmed), Arc::clone(&numbers));
            tasks.spawn(async move {
                while !stopped.load(SeqCst) {
                    let n = numbers.fetch_add(1, SeqCst);
                    match publish(&bus, n).await {
                        Ok(()) => drop(confirmed.lock().unwrap().insert(n)),
                        Err(error) => assert!(error.is_retryable(), "{error:?}"),
                    }
                    // sleep: a publisher that never rests would fill the test's memory.
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let confirmed = confirmed.lock().unwrap();
        confirmed.clone()
    });
    (stop, publishing)
}

/// Waits until all that was confirmed is handled.
async fn all_come(heard: &mut mpsc::UnboundedReceiver<u32>, mut confirmed: BTreeSet<u32>) {
    assert!(confirmed.len() > 20, "only {} were confirmed", confirmed.len());
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    let come = async {
        while !confirmed.is_empty() {
            let n = heard.recv().await.unwrap();
            confirmed.remove(&n);
            twice.extend((!seen.insert(n)).then_some(n));
        }
    };
    let came = timeout(LATE, come).await;
    assert!(came.is_ok(), "{} were confirmed and did not come: {confirmed:?}", confirmed.len());
    // Nobody here publishes again after an error, and no lease of half a minute has run out.
    assert!(twice.is_empty(), "{} were handled twice: {twice:?}", twice.len());
}

/// Does something to the server while many publish, and looks that nothing confirmed is lost.
async fn nothing_is_lost(url: &str, mut harm: impl FnMut(u32)) {
    let bus = open(&with(url, "timeout=2s&connect_timeout=2s")).await;
    let mut heard = hear(&bus, Some("g")).await;
    let (stop, publishing) = publishing(&bus);
    for round in 0..3 {
        // sleep: events must be on their way when it happens.
        tokio::time::sleep(Duration::from_millis(300)).await;
        harm(round);
    }
    confirmed(&bus, u32::MAX).await;
    stop.store(true, SeqCst);
    let confirmed = timeout(LATE, publishing).await.unwrap().unwrap();
    all_come(&mut heard, confirmed).await;
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_loses_nothing_it_confirmed() {
    let redis = Redis::options().appendonly(true).start().unwrap();
    nothing_is_lost(&redis.url("redis-streams"), |_| {
        redis.kill().unwrap();
        redis.start_again().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_for_longer_than_its_timeout_loses_nothing() {
    let redis = Redis::start().unwrap();
    nothing_is_lost(&redis.url("redis-streams"), |_| {
        redis.pause().unwrap();
        std::thread::sleep(Duration::from_millis(2500)); // sleep: it must be longer than the timeout
        redis.resume().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_cut_off_or_slow_lose_nothing() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let url = proxy.url_of(&redis.url("redis-streams"));
    nothing_is_lost(&url, |round| match round {
        0 => proxy.reset(),
        1 => {
            proxy.fault(Fault::BlackHole);
            std::thread::sleep(Duration::from_millis(2500)); // sleep: longer than the timeout
            proxy.reset();
            proxy.fault(Fault::Latency(Duration::from_millis(100)));
        }
        _ => {
            proxy.fault(Fault::HalfOpen);
            std::thread::sleep(Duration::from_millis(2500)); // sleep: longer than the timeout
            proxy.fault(Fault::None);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_come_back_by_themselves_and_publishing_says_that_it_may() {
    for scheme in ["redis", "redis-streams"] {
        let redis = Redis::options().appendonly(true).start().unwrap();
        let bus = open(&with(&redis.url(scheme), "timeout=300ms")).await;
        let mut heard = hear(&bus, None).await;
        confirmed(&bus, 1).await;
        until(&mut heard, 1).await;
        redis.kill().unwrap();
        for n in 2..4 {
            let error = publish(&bus, n).await.expect_err("nobody is there");
            assert!(error.is_retryable(), "{error:?}");
        }
        redis.start_again().unwrap();
        let mut n = 10;
        // Pub/sub misses what is published before it listens again.
        let back = async {
            loop {
                confirmed(&bus, n).await;
                match timeout(Duration::from_millis(200), heard.recv()).await {
                    Ok(Some(10..)) => return,
                    _ => n += 1,
                }
            }
        };
        timeout(LATE, back).await.unwrap_or_else(|_| panic!("{scheme} did not come back"));
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_of_streams_are_heard_that_were_published_while_cut_off() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::to(redis.address()).unwrap();
    let far = open(&with(&proxy.url_of(&redis.url("redis-streams")), "timeout=500ms")).await;
    let near = open(&redis.url("redis-streams")).await;
    let mut heard = hear(&far, None).await;
    confirmed(&near, 1).await;
    until(&mut heard, 1).await;
    proxy.fault(Fault::Refuse);
    for n in 2..50 {
        confirmed(&near, n).await;
    }
    proxy.fault(Fault::None);
    for n in 2..50 {
        assert_eq!(timeout(LATE, heard.recv()).await.unwrap(), Some(n));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_subscription_outlives_every_timeout() {
    let redis = Redis::start().unwrap();
    for (scheme, group) in [("redis", None), ("redis-streams", None), ("redis-streams", Some("g"))]
    {
        let bus = open(&with(&redis.url(scheme), "timeout=100ms")).await;
        let mut heard = hear(&bus, group).await;
        // sleep: silence is what is tested.
        tokio::time::sleep(Duration::from_millis(3500)).await;
        confirmed(&bus, 7).await;
        assert_eq!(timeout(LATE, heard.recv()).await.unwrap(), Some(7), "{scheme} {group:?}");
        let clients = redis.command(&["INFO", "stats"]).unwrap();
        let made = clients.lines().find_map(|l| l.strip_prefix("total_connections_received:"));
        assert!(made.unwrap().trim().parse::<u32>().unwrap() < 40, "it connects all the time");
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_everything_is_found_out_and_groups_go_on() {
    let redis = Redis::start().unwrap();
    let bus = open(&redis.url("redis-streams")).await;
    let (mut heard, mut all) = (hear(&bus, Some("g")).await, hear(&bus, None).await);
    let forgets = ["FLUSHALL", "DEL events", "XGROUP DESTROY events g", "SCRIPT FLUSH"]
        .map(str::split_whitespace);
    for (n, forgets) in (1..).zip(forgets) {
        confirmed(&bus, n).await;
        until(&mut heard, n).await;
        until(&mut all, n).await;
        redis.command(&forgets.collect::<Vec<_>>()).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await; // sleep: places are counted by milliseconds
    }
    confirmed(&bus, 100).await;
    until(&mut heard, 100).await;
    until(&mut all, 100).await;
    let keeper = bus.keeper().unwrap();
    assert_eq!(keeper.groups().await.unwrap()[0].name, "g");
    bus.idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_persistence_that_restarts_begins_anew() {
    let redis = Redis::start().unwrap();
    let bus = open(&with(&redis.url("redis-streams"), "timeout=1s")).await;
    let mut heard = hear(&bus, Some("g")).await;
    confirmed(&bus, 1).await;
    until(&mut heard, 1).await;
    redis.kill().unwrap();
    redis.start_again().unwrap();
    confirmed(&bus, 2).await;
    until(&mut heard, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_says_so_and_takes_more_when_there_is_room() {
    let redis = Redis::start().unwrap();
    let bus = open(&redis.url("redis-streams")).await;
    let mut heard = hear(&bus, Some("g")).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let error = publish(&bus, 1).await.expect_err("it is full");
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
    assert!(error.is_retryable() && error.advice().is_some());
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    confirmed(&bus, 2).await;
    until(&mut heard, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_told_and_a_master_is_used_again() {
    let redis = Redis::start().unwrap();
    let bus = open(&with(&redis.url("redis-streams"), "timeout=1s")).await;
    let mut heard = hear(&bus, Some("g")).await;
    confirmed(&bus, 1).await;
    until(&mut heard, 1).await;
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    let error = publish(&bus, 2).await.expect_err("it takes no writes");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("replica"), "{error}");
    redis.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    confirmed(&bus, 3).await;
    until(&mut heard, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changed_ends_the_group_with_an_error() {
    let redis = Redis::options().password("old").start().unwrap();
    let bus = open(&redis.url("redis-streams")).await;
    let _heard = hear(&bus, Some("g")).await;
    redis.command(&["CONFIG", "SET", "requirepass", "new"]).unwrap();
    redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    let error = timeout(LATE, bus.failed()).await.expect("it went on");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handler_delays_no_other_topic() {
    let redis = Redis::start().unwrap();
    for scheme in ["redis", "redis-streams"] {
        let bus = open(&redis.url(scheme)).await;
        let (gate, held) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
        let (open, count) = (Arc::clone(&gate), Arc::clone(&held));
        bus.on("slow")
            .run(async move |_: Event| {
                count.fetch_add(1, SeqCst);
                open.acquire().await.unwrap().forget();
            })
            .await
            .unwrap();
        let mut heard = hear(&bus, None).await;
        for n in 0..100 {
            bus.publish(Event::new("slow").payload(n)).await.unwrap();
            publish(&bus, n).await.unwrap();
        }
        for n in 0..100 {
            assert_eq!(timeout(LATE, heard.recv()).await.unwrap(), Some(n), "{scheme}");
        }
        assert_eq!(held.load(SeqCst), 1, "those of one topic come one after another");
        gate.add_permits(1000);
        timeout(LATE, bus.idle()).await.unwrap().unwrap();
        assert_eq!(held.load(SeqCst), 100);
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_never_handled_is_bounded_and_what_is_dropped_is_counted() {
    let redis = Redis::start().unwrap();
    let (near, far) = (open(&redis.url("redis")).await, open(&redis.url("redis")).await);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (open, seen) = (Arc::clone(&gate), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&seen);
    far.on("slow")
        .run(async move |_: Event| {
            open.acquire().await.unwrap().forget();
            count.fetch_add(1, SeqCst);
        })
        .await
        .unwrap();
    let mut heard = hear(&far, None).await;
    let batch: Vec<_> = (0..5000).map(|n| Event::new("slow").payload(n).into()).collect();
    near.publish_all(&batch).await.into_iter().for_each(|one| drop(one.unwrap()));
    publish(&near, 1).await.unwrap();
    until(&mut heard, 1).await;
    gate.add_permits(10_000);
    timeout(LATE, far.idle()).await.unwrap().unwrap();
    let dropped = far.counters().broadcasts.dropped.get();
    assert!(dropped > 0 && u64::from(seen.load(SeqCst)) + dropped == 5000, "{dropped} dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_buses_leave_nothing_behind() {
    let redis = Redis::start().unwrap();
    let clients = || redis.command(&["CLIENT", "LIST", "TYPE", "normal"]).unwrap().lines().count();
    let subscribers = || redis.command(&["PUBSUB", "NUMPAT"]).unwrap();
    let before = clients();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let alive = tasks();
    for n in 0..200 {
        let scheme = if n % 2 == 0 { "redis" } else { "redis-streams" };
        let bus = open(&redis.url(scheme)).await;
        let _heard = hear(&bus, None).await;
        if n % 2 == 1 {
            let _heard = hear(&bus, Some("g")).await;
            bus.close().await.unwrap();
        } else {
            bus.close().await.unwrap();
        }
    }
    let gone = async {
        while clients() > before || tasks() > alive || subscribers() != "0" {
            // sleep: the server notices closed connections by itself.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = timeout(Duration::from_secs(20), gone).await;
    let left = (clients() - before, tasks().saturating_sub(alive));
    assert!(gone.is_ok(), "{left:?} connections and tasks are left");
    let members = redis.command(&["XINFO", "CONSUMERS", "events", "g"]).unwrap();
    assert!(members.is_empty(), "members are left: {members}");
}
