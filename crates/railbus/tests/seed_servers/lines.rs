//! By lines to a server, some of which break.

use super::*;
use railbus::{CachedRegistry, Error};
use railbus_testbed::Fault;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

/// Publishes until one goes through: whose line broke may be told so.
async fn publish(bus: &Bus, n: u32) {
    while bus.publish(event("t", n)).await.is_err() {
        // sleep: what is away comes back by itself, and tells nobody.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[railbus::test(timeout = "4m")]
async fn who_publishes_and_who_listens_find_their_server_again() {
    for place in places::shared() {
        let Some((proxy, url)) = place.by_proxy() else { continue };
        let (bus, other) = (Bus::open(&url).await.unwrap(), open(&place).await);
        let seen = record(&bus, "t").await;
        publish(&bus, 0).await;
        seen.wait_for(1).await;
        for _ in 0..2 {
            proxy.fault(Fault::Refuse);
            proxy.reset();
            // What is only in this process needs no server.
            let also = record(&bus, "never").await;
            assert!(also.is_empty(), "{}", place.url);
            proxy.fault(Fault::None);
            let before = seen.len();
            publish(&bus, 1).await;
            while seen.len() == before {
                publish(&other, 2).await;
                // sleep: until its listener is back nobody can tell.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        bus.close().await.unwrap();
        other.close().await.unwrap();
    }
}

#[railbus::test(timeout = "2m")]
async fn a_bus_whose_server_is_away_closes() {
    for place in places::shared() {
        let Some((proxy, url)) = place.by_proxy() else { continue };
        let bus = Bus::open(&url).await.unwrap();
        let _seen = record(&bus, "t").await;
        publish(&bus, 0).await;
        proxy.fault(Fault::Refuse);
        proxy.reset();
        // Whatever it says of a server that does not answer: it ends, and with it all tries.
        let _ = bus.close().await;
        let refused = bus.publish(event("t", 1)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "{} {refused}", place.url);
    }
}

#[railbus::test]
async fn a_prefix_is_what_it_says_and_nobody_elses() {
    for place in places::live() {
        // In an address `[` and `*` are written as they are, and so is what ends them.
        let at = |prefix: &str| match place.url.split_once("prefix=") {
            Some((before, own)) => format!("{before}prefix={own}{prefix}"),
            None => place.with(&format!("prefix={prefix}")),
        };
        let mut all = Vec::new();
        for prefix in ["my-app", "my_app", "my*", "my[-_]app", "m"] {
            let bus = Bus::open(&at(prefix)).await.unwrap();
            let seen = record(&bus, "*").await;
            all.push((bus, seen));
        }
        for (n, (bus, _)) in (0..).zip(&all) {
            bus.publish(event("t", n)).await.unwrap();
        }
        for (n, (bus, seen)) in (0..).zip(&all) {
            bus.idle().await.unwrap();
            assert_eq!(numbers(seen), [n], "{}", place.url);
        }
        for (bus, _) in all {
            bus.close().await.unwrap();
        }
    }
}

#[cfg(feature = "postgres")]
#[railbus::test]
async fn opens_what_the_environment_names() {
    if std::env::var_os("RAILBUS_TEST_ENVIRONMENT").is_some() {
        let bus = Bus::open(json!({ "backend": "postgres" })).await.unwrap();
        bus.publish(event("t", 7)).await.unwrap();
        bus.close().await.unwrap();
    }
}

#[cfg(feature = "postgres")]
#[railbus::test]
async fn the_environment_names_the_database() {
    let place = places::live().into_iter().find(|p| p.url.starts_with("postgres")).unwrap();
    let bus = open(&place).await;
    let seen = record(&bus, "t").await;
    let child = |url: Option<&str>| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "lines::opens_what_the_environment_names"]);
        child
            .env_remove("DATABASE_URL")
            .env_remove("PGHOST")
            .envs(url.map(|u| ("DATABASE_URL", u)));
        child.env("RAILBUS_TEST_ENVIRONMENT", "1").output().unwrap().status.success()
    };
    assert!(child(Some(&place.url)));
    assert_eq!(seen.wait_for(1).await[0].payload::<u32>().unwrap(), 7);
    assert!(!child(None), "nothing says where the database is");
    bus.close().await.unwrap();
}

#[railbus::test(timeout = "4m")]
async fn a_registry_whose_line_broke_serves_nothing_that_changed_meanwhile() {
    for place in places::shared() {
        let Some((proxy, url)) = place.by_proxy() else { continue };
        let (bus, other) = (Bus::open(&url).await.unwrap(), open(&place).await);
        let version = Arc::new(AtomicUsize::new(1));
        let now = Arc::clone(&version);
        let load = async move |_: String| Ok::<_, Error>(now.load(SeqCst));
        let bots = CachedRegistry::new(load).open(&bus).await.unwrap();
        assert_eq!(*bots.get("b1").await.unwrap(), 1);

        proxy.fault(Fault::Refuse);
        proxy.reset();
        version.store(2, SeqCst);
        let change = json!({ "instance_id": "b1" });
        let change = Event::new(Type::UPDATED).topic("registry:instances").payload(change);
        other.publish(change).await.unwrap();
        proxy.fault(Fault::None);
        let mut looks = 0;
        while *bots.get("b1").await.unwrap() != 2 {
            looks += 1;
            assert!(looks < 2_000, "{}: it serves what it kept for ever", place.url);
            // sleep: a line that comes back tells nobody here.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // From then on changes are heard of as before, and what did not change is kept.
        until_heard(&other, &bus).await;
        assert_eq!((*bots.get("b1").await.unwrap(), bots.len()), (2, 1), "{}", place.url);
        bus.close().await.unwrap();
        other.close().await.unwrap();
    }
}
