//! A queue behind PgBouncer in transaction mode, where each transaction may be on another connection
//! to the server.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{LetterFilter, Start},
    backends::postgres_queue::migrate,
    clock::Timestamp,
    options::Options,
    testing::Recorder,
};
use railbus_testbed::{PgBouncer, Postgres};
use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::timeout;

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

/// Fewer connections to the server than any bus has to the pool.
const FEW: [(&str, &str); 1] = [("default_pool_size", "2")];

fn by_way_of(bouncer: &PgBouncer, url: &str) -> String {
    format!("{}?poll_only=true&poll=20ms", bouncer.url_of(url))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_group_does_works_with_poll_only_on_fewer_connections_than_it_has() {
    let (database, bouncer) = (SERVER.database().unwrap(), PgBouncer::with(&SERVER, &FEW).unwrap());
    let url = by_way_of(&bouncer, &database.url("postgres-queue"));
    assert_eq!(migrate(&Options::parse(&url).unwrap(), &[]).await.unwrap().0, 0);
    let (bus, other) = (Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap());
    let (recorder, ear, tries) = (Recorder::new(), Recorder::new(), AtomicU32::new(0));
    let (record, tries) = (recorder.clone(), std::sync::Arc::new(tries));
    let counted = tries.clone();
    let handler = move |e: &Event| {
        match e.event_type() {
            "twice" if counted.fetch_add(1, SeqCst) == 0 => return Err("not yet"),
            "never" => return Err("never"),
            _ => {}
        }
        railbus::SyncHandler::handle(&record, e).map_err(|_| "refused")
    };
    for bus in [&bus, &other] {
        let retry = Retry::attempts(2).backoff_factor(Duration::from_millis(50));
        let on = bus.on("*").group("g").named("n").lease(Duration::from_secs(2)).retry(retry);
        on.run(handler.clone()).await.unwrap();
    }
    other.on("tick").run(ear.clone()).await.unwrap();
    let publishing: Vec<_> = (0..8)
        .map(|task| {
            let bus = if task % 2 == 0 { bus.clone() } else { other.clone() };
            tokio::spawn(async move {
                for n in 0..50 {
                    let id = format!("{task}-{n}");
                    bus.publish(Event::new("tick").id(id).key("k").payload(n)).await.unwrap();
                }
            })
        })
        .collect();
    for task in publishing {
        task.await.unwrap();
    }
    let then = Timestamp::now().after(Duration::from_millis(300));
    bus.publish(Event::new("late").deliver_at(then).payload(1)).await.unwrap();
    let hour = Duration::from_secs(3600);
    bus.publish(Event::new("withdrawn").id("w").delay(hour).payload(1)).await.unwrap();
    assert!(other.withdraw("w").await.unwrap());
    for name in ["twice", "never"] {
        bus.publish(Event::new(name).payload(1)).await.unwrap();
    }
    timeout(Duration::from_secs(60), bus.idle()).await.unwrap().unwrap();
    timeout(Duration::from_secs(60), ear.wait_for(400)).await.unwrap();
    assert!(Timestamp::now() >= then);
    let mut got = recorder.types();
    got.sort();
    got.dedup();
    assert_eq!((recorder.len(), got), (402, vec!["late".into(), "tick".into(), "twice".into()]));
    assert_eq!(tries.load(SeqCst), 2);
    let keeper = bus.keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 2));
    assert_eq!(keeper.purge(&[letters[0].id.clone()]).await.unwrap(), 1);
    assert!(keeper.replay("g", Start::Oldest).await.unwrap() >= 402);
    timeout(Duration::from_secs(60), bus.idle()).await.unwrap().unwrap();
    assert_eq!(keeper.groups().await.unwrap()[0].lag, 0);
    bus.close().await.unwrap();
    other.close().await.unwrap();
    let listens = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    assert_eq!(database.psql(listens).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_poll_only_publishing_works_and_subscribing_says_what_to_set() {
    let (database, bouncer) = (SERVER.database().unwrap(), PgBouncer::with(&SERVER, &FEW).unwrap());
    let direct = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let recorder = Recorder::new();
    direct.on("t").group("g").run(recorder.clone()).await.unwrap();
    let bus = Bus::open(&bouncer.url_of(&database.url("postgres-queue"))).await.unwrap();
    for n in 0..100 {
        bus.publish(Event::new("t").payload(n)).await.unwrap();
    }
    direct.idle().await.unwrap();
    assert_eq!(recorder.len(), 100);
    for grouped in [true, false] {
        let on = bus.on("t");
        let on = if grouped { on.group("g") } else { on };
        let refused = on.run(|_: &Event| ()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert!(refused.advice().unwrap().contains("poll_only"), "{refused:?}");
    }
    bus.close().await.unwrap();
    direct.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_restarts_or_whose_server_does_is_only_a_pause() {
    let server = Postgres::options().fsync(true).start().unwrap();
    let (database, bouncer) = (server.database().unwrap(), PgBouncer::with(&server, &FEW).unwrap());
    let url = by_way_of(&bouncer, &database.url("postgres-queue"));
    let bus = Bus::open(&format!("{url}&connect_timeout=3s&statement_timeout=3s")).await.unwrap();
    let recorder = Recorder::new();
    bus.on("t").group("g").lease(Duration::from_secs(1)).run(recorder.clone()).await.unwrap();
    let mut confirmed = Vec::new();
    for (n, what) in ["nothing", "pool", "server"].into_iter().enumerate() {
        match what {
            "pool" => {
                bouncer.kill().unwrap();
                bouncer.start_again().unwrap();
            }
            "server" => {
                server.kill().unwrap();
                server.start_again().unwrap();
            }
            _ => {}
        }
        let mut here = 0;
        for i in 0.. {
            let id = format!("{n}-{i}");
            if bus.publish(Event::new("t").id(&*id).payload(1)).await.is_ok() {
                confirmed.push(id);
                here += 1;
            }
            if here == 20 {
                break;
            }
        }
    }
    timeout(Duration::from_secs(60), async {
        while bus.idle().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let got: Vec<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    let lost: Vec<_> = confirmed.iter().filter(|id| !got.contains(id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    bus.close().await.unwrap();
}
