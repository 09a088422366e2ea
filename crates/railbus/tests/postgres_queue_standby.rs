//! A standby of the server: refused as long as it is one, and the bus's server once it was promoted.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event,
    backends::{checkup::Status, find},
    options::Options,
    testing::Recorder,
};
use railbus_testbed::{Database, Postgres};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::time::timeout;

const SETTINGS: &str = "?connect_timeout=3s&statement_timeout=3s&poll=200ms";

/// Returns the URL of a database by way of several servers, in their order.
fn by_way_of(servers: &[&Postgres], database: &Database<'_>) -> String {
    let hosts: Vec<_> = servers.iter().map(|server| server.address().to_string()).collect();
    format!("postgres-queue://postgres@{}/{}{SETTINGS}", hosts.join(","), database.name())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_and_passed_by_where_a_primary_is_named_too() {
    let primary = Postgres::start().unwrap();
    let database = primary.database().unwrap();
    Bus::open(&database.url("postgres-queue")).await.unwrap().close().await.unwrap();
    let standby = primary.standby().unwrap();
    for scheme in ["postgres-queue", "postgres"] {
        let url = by_way_of(&[&standby], &database);
        let url = url.replace("postgres-queue", scheme).replace("&poll=200ms", "");
        let error = Bus::open(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("standby"), "{error}");
        assert!(error.advice().unwrap().contains("primary"), "{error:?}");
        let options = Options::parse(&url).unwrap();
        let look = (find(&options).unwrap().look)(&options);
        let server = look.checks.iter().find(|check| check.name == "server").unwrap();
        assert_eq!(server.status, Status::Fail, "{look:?}");
        assert!(server.detail.contains("standby"), "{look:?}");
    }
    let bus = Bus::open(&by_way_of(&[&standby, &primary], &database)).await.unwrap();
    let recorder = Recorder::new();
    bus.on("t").group("g").run(recorder.clone()).await.unwrap();
    bus.publish(Event::new("t").payload(1)).await.unwrap();
    bus.idle().await.unwrap();
    assert_eq!(recorder.len(), 1);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_is_delivered_by_the_standby_that_is_promoted() {
    let primary = Postgres::start().unwrap();
    let database = primary.database().unwrap();
    Bus::open(&database.url("postgres-queue")).await.unwrap().close().await.unwrap();
    let standby = primary.standby().unwrap();
    primary.waits_for_standbys().unwrap();
    let bus = Bus::open(&by_way_of(&[&primary, &standby], &database)).await.unwrap();
    let recorder = Recorder::new();
    bus.on("t").group("g").lease(Duration::from_secs(1)).run(recorder.clone()).await.unwrap();
    let (stop, confirmed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let publishing: Vec<_> = (0..8)
        .map(|task| {
            let (bus, stop, confirmed) = (bus.clone(), Arc::clone(&stop), Arc::clone(&confirmed));
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for n in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let id = format!("{task}-{n}");
                    match bus.publish(Event::new("t").id(&*id).payload(n)).await {
                        Ok(_) => {
                            confirmed.fetch_add(1, SeqCst);
                            ids.push(id);
                        }
                        Err(e) => assert!(e.is_retryable(), "{e}"),
                    }
                }
                ids
            })
        })
        .collect();
    let more = async |more: u64| {
        let goal = confirmed.load(SeqCst) + more;
        let waiting = async {
            while confirmed.load(SeqCst) < goal {
                // sleep: nothing tells when a publish in another task is confirmed.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("nothing is confirmed any more");
    };
    more(300).await;
    primary.kill().unwrap();
    standby.promote().unwrap();
    more(300).await;
    stop.store(true, SeqCst);
    let mut ids = Vec::new();
    for task in publishing {
        ids.extend(task.await.unwrap());
    }
    timeout(Duration::from_secs(60), async { while bus.idle().await.is_err() {} }).await.unwrap();
    let got: HashSet<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    let lost: Vec<_> = ids.iter().filter(|id| !got.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), ids.len());
    bus.close().await.unwrap();
}
