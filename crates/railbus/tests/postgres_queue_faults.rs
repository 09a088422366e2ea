//! Servers that die, hang and are cut off: no Ok is lost, and what was leased comes again.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Error, ErrorKind, Event, error::Result};
use railbus_testbed::{Fault, Postgres, Proxy};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};

/// Short, so that what is cut off is given up soon.
const SETTINGS: &str = "?connect_timeout=3s&statement_timeout=2s&poll=200ms";

/// What a group got, and how often.
#[derive(Clone, Default)]
struct Got(Arc<Mutex<HashMap<String, u32>>>);

impl Got {
    async fn by(bus: &Bus) -> Self {
        let got = Self::default();
        let seen = got.clone();
        let handler = move |e: &Event| {
            *seen.0.lock().unwrap().entry(e.id().to_owned()).or_default() += 1;
        };
        bus.on("t").group("g").lease(Duration::from_secs(1)).run(handler).await.unwrap();
        got
    }

    fn all(&self) -> HashMap<String, u32> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until all of these have come.
    async fn wait_for(&self, ids: &[String]) {
        let waiting = async {
            while ids.iter().any(|id| !self.0.lock().unwrap().contains_key(id)) {
                // sleep: nothing tells when a handler in another task was called.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(Duration::from_secs(60), waiting).await.is_err() {
            let got = self.all();
            let missing: Vec<_> = ids.iter().filter(|id| !got.contains_key(*id)).collect();
            panic!("{} of {} are missing: {missing:?}", missing.len(), ids.len());
        }
    }
}

/// Publishes from 8 tasks until told to stop; returns the ids that were confirmed.
struct Publishing {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Publishing {
    fn start(bus: &Bus) -> Self {
        let (stop, confirmed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let one = |task: u32| {
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
                        Err(e) => assert!(may_heal(&e), "{e}"),
                    }
                }
                ids
            })
        };
        let tasks = (0..8).map(one).collect();
        Self { stop, confirmed, tasks }
    }

    /// Waits until so many more were confirmed.
    async fn wait_for(&self, more: u64) {
        let goal = self.confirmed.load(SeqCst) + more;
        let waiting = async {
            while self.confirmed.load(SeqCst) < goal {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("nothing is confirmed any more");
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        let mut ids = Vec::new();
        for task in self.tasks {
            ids.extend(task.await.unwrap());
        }
        ids
    }
}

fn may_heal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ok_is_lost_when_the_server_is_killed_again_and_again() {
    // Synced: what a server without it loses is its own affair.
    let server = Postgres::options().fsync(true).start().unwrap();
    let url = format!("{}{SETTINGS}", server.database().unwrap().url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    let got = Got::by(&bus).await;
    let publishing = Publishing::start(&bus);
    for _ in 0..3 {
        publishing.wait_for(100).await;
        server.kill().unwrap();
        server.start_again().unwrap();
    }
    publishing.wait_for(100).await;
    let confirmed = publishing.end().await;
    got.wait_for(&confirmed).await;
    bus.idle().await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ok_is_lost_when_connections_are_reset_black_and_half_open() {
    let server = Postgres::start().unwrap();
    let proxy = Proxy::to(server.address()).unwrap();
    let direct = server.database().unwrap().url("postgres-queue");
    let url = format!("{}{SETTINGS}", proxy.url_of(&direct));
    let bus = Bus::open(&url).await.unwrap();
    let got = Got::by(&bus).await;
    let publishing = Publishing::start(&bus);
    for fault in [None, Some(Fault::BlackHole), Some(Fault::HalfOpen), Some(Fault::Refuse)] {
        publishing.wait_for(50).await;
        match fault {
            None => proxy.reset(),
            Some(fault) => {
                proxy.fault(fault);
                // sleep: longer than a statement may take, so that it is given up.
                tokio::time::sleep(Duration::from_millis(2500)).await;
                proxy.fault(Fault::None);
            }
        }
    }
    publishing.wait_for(50).await;
    let confirmed = publishing.end().await;
    got.wait_for(&confirmed).await;
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_catches_up_after_its_connections_were_away() {
    let server = Postgres::start().unwrap();
    let proxy = Proxy::to(server.address()).unwrap();
    let direct = server.database().unwrap().url("postgres-queue");
    let ear = Bus::open(&format!("{}{SETTINGS}", proxy.url_of(&direct))).await.unwrap();
    let mouth = Bus::open(&direct).await.unwrap();
    let recorder = railbus::testing::Recorder::new();
    ear.on("*").run(recorder.clone()).await.unwrap();
    mouth.publish(Event::new("before").payload(1)).await.unwrap();
    recorder.wait_for(1).await;
    proxy.fault(Fault::Refuse);
    mouth.publish(Event::new("meanwhile").payload(1)).await.unwrap();
    proxy.fault(Fault::None);
    mouth.publish(Event::new("after").payload(1)).await.unwrap();
    timeout(Duration::from_secs(60), recorder.wait_for(3)).await.unwrap();
    assert_eq!(recorder.types(), ["before", "meanwhile", "after"]);
    ear.close().await.unwrap();
    mouth.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_told_in_time_and_serves_again() {
    let server = Postgres::start().unwrap();
    let url = format!("{}{SETTINGS}", server.database().unwrap().url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    let got = Got::by(&bus).await;
    bus.publish(Event::new("t").id("before").payload(1)).await.unwrap();
    got.wait_for(&["before".into()]).await;
    server.pause().unwrap();
    let late: Result<_> = bus.publish(Event::new("t").id("late").payload(1)).await;
    assert!(may_heal(&late.unwrap_err()));
    server.resume().unwrap();
    bus.publish(Event::new("t").id("after").payload(1)).await.unwrap();
    got.wait_for(&["after".into()]).await;
    bus.close().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_told_at_once() {
    let server = Postgres::options().password("secret").start().unwrap();
    let database = server.database().unwrap();
    let (good, name) = (database.url("postgres-queue"), database.name().to_owned());
    let wrong = [
        (good.replace("secret", "guess"), ErrorKind::Denied),
        (good.replace(&name, "nowhere"), ErrorKind::NotFound),
        (format!("{good}?tls=true"), ErrorKind::Config),
        (format!("{good}?poll=0s"), ErrorKind::Config),
        (format!("{good}?connections=0"), ErrorKind::Config),
        (format!("{good}?poll_only=perhaps"), ErrorKind::Config),
    ];
    for (url, kind) in wrong {
        let error = Bus::open(&url).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_may_not_be_written_is_told_by_publish() {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let name = database.name();
    database
        .psql(&format!(
            "ALTER DATABASE {name} SET default_transaction_read_only = on; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        ))
        .unwrap();
    let told = async {
        loop {
            let error = bus.publish(Event::new("t").payload(1)).await.unwrap_err();
            if error.message().contains("standby") || error.message().contains("read") {
                return error;
            }
        }
    };
    let error = timeout(Duration::from_secs(30), told).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_after_many_opened_and_closed() {
    let server = Postgres::options().setting("max_connections", "40").start().unwrap();
    let database = server.database().unwrap();
    let url = database.url("postgres-queue");
    let open = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
        database.name()
    );
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    Bus::open(&url).await.unwrap().close().await.unwrap();
    let before = tasks();
    for n in 0..200 {
        let bus = Bus::open(&url).await.unwrap();
        if n % 10 == 0 {
            bus.on("t").group("g").run(|_: &Event| ()).await.unwrap();
            bus.on("t").run(|_: &Event| ()).await.unwrap();
            bus.publish(Event::new("t").payload(n)).await.unwrap();
            bus.idle().await.unwrap();
        }
        bus.close().await.unwrap();
    }
    let gone = async {
        while database.psql(&open).unwrap().trim() != "0" || tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    let gone = timeout(Duration::from_secs(30), gone).await;
    let left = (database.psql(&open).unwrap(), tasks());
    assert!(gone.is_ok(), "connections and tasks are left: {left:?}, {before} before");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_publish_while_the_server_is_away_all_learn_it_at_about_one_time() {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    for scheme in ["postgres", "postgres-queue"] {
        let proxy = Proxy::to(server.address()).unwrap();
        let url = proxy.url_of(&database.url(scheme));
        let bus = Bus::open(&format!("{url}?connect_timeout=1s")).await.unwrap();
        bus.publish(Event::new("t")).await.unwrap();
        proxy.fault(Fault::Refuse);
        proxy.reset();
        let began = Instant::now();
        let mut publishing = JoinSet::new();
        for n in 0..20_000 {
            let bus = bus.clone();
            publishing.spawn(async move { bus.publish(Event::new("t").payload(n)).await });
        }
        let (mut first, mut failed) = (None, 0);
        while let Some(published) = publishing.join_next().await {
            // One that was on its way when the line broke fails at once.
            if let Err(e) = published.unwrap()
                && began.elapsed() >= Duration::from_secs(1)
            {
                assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
                first.get_or_insert_with(|| began.elapsed());
                failed += 1;
            }
        }
        let (first, last) = (first.unwrap(), began.elapsed());
        assert!(failed > 10_000, "{scheme}: {failed} waited");
        assert!(last < first * 3, "{scheme}: the first failed after {first:?}, the last {last:?}");
        proxy.fault(Fault::None);
        // It is not tried again at once.
        while bus.publish(Event::new("t")).await.is_err() {}
        bus.close().await.unwrap();
    }
}
