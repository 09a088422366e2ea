//! What is held back and withdrawn: by whom it was asked, and what becomes of what is claimed at once.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event,
    backends::postgres_queue::{Grant, grants},
};
use railbus_testbed::{Database, Postgres};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::options().password("secret").start().unwrap());

/// How often each event was handed to whom.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<(String, String), u32>>>);

impl Seen {
    fn handler(&self, who: &str) -> impl Fn(&Event) + Clone + Send + Sync + use<> {
        let (seen, who) = (self.clone(), who.to_owned());
        move |e: &Event| {
            let key = (e.id().to_owned(), who.clone());
            *seen.0.lock().unwrap().entry(key).or_default() += 1;
        }
    }

    /// Tells how often those got the event, in their order.
    fn of(&self, id: &str, all: &[&str]) -> Vec<u32> {
        let seen = self.0.lock().unwrap();
        let count = |who: &&str| seen.get(&(id.to_owned(), (*who).to_owned())).copied();
        all.iter().map(|who| count(who).unwrap_or(0)).collect()
    }

    /// Waits until they have got the event so often.
    async fn wait_for(&self, id: &str, all: &[&str], counts: &[u32]) {
        let waiting = async {
            while self.of(id, all) != counts {
                // sleep: nothing tells when a handler in another task was called.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it does not come");
    }
}

/// Lets a group of the bus have all events, in the order of keys or not.
async fn group(bus: &Bus, name: &str, keyed: bool, seen: &Seen) {
    let on = bus.on("t").group(name).limit(4);
    let on = if keyed { on.ordered_by_key() } else { on };
    on.run(seen.handler(name)).await.unwrap();
}

async fn connect(database: &Database<'_>) -> Client {
    let (client, connection) =
        tokio_postgres::connect(&database.url("postgres"), NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

fn open_rows(database: &Database<'_>) -> String {
    let left =
        "SELECT (SELECT count(*) FROM railbus.deliveries), (SELECT count(*) FROM railbus.leases)";
    database.psql(left).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_claims_and_withdrawals_at_once_one_has_the_event_and_one_alone() {
    const EVENTS: usize = 800;
    const WHO: [&str; 5] = ["plain", "keyed", "late", "ear 0", "ear 1"];
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    let (buses, seen) =
        ([Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap()], Seen::default());
    for (nth, bus) in buses.iter().enumerate() {
        group(bus, "plain", false, &seen).await;
        group(bus, "keyed", true, &seen).await;
        bus.on("t").run(seen.handler(&format!("ear {nth}"))).await.unwrap();
    }
    let one = |n: usize| {
        let bus = buses[n % 2].clone();
        async move {
            let id = format!("e-{n}");
            // Some are due before any group has looked at them, some wait for that.
            let delay = Duration::from_micros([300, 1_500, 4_000, 40_000, 90_000][n % 5]);
            let event = Event::new("t").id(&*id).key(format!("k-{}", n % 7)).delay(delay);
            bus.publish(event.payload(n)).await.unwrap();
            if n % 5 > 2 {
                let until = delay + Duration::from_micros((n % 80) as u64 * 100);
                // sleep: until about when it is due, some before and some after.
                tokio::time::sleep(until - Duration::from_millis(4)).await;
            }
            (bus.withdraw(&id).await.unwrap(), id)
        }
    };
    let mut answers = Vec::new();
    for batch in 0..EVENTS / 40 {
        let tasks: Vec<_> = (0..40).map(|n| tokio::spawn(one(batch * 40 + n))).collect();
        if batch == 1 {
            group(&buses[0], "late", false, &seen).await;
        }
        for task in tasks {
            answers.push(task.await.unwrap());
        }
    }
    for bus in &buses {
        bus.idle().await.unwrap();
    }
    let withdrawn = answers.iter().filter(|(withdrawn, _)| *withdrawn).count();
    for (withdrawn, id) in &answers {
        let expected = if *withdrawn { vec![0; 5] } else { vec![1; 5] };
        assert_eq!(seen.of(id, &WHO), expected, "{id}, withdrawn: {withdrawn}");
    }
    assert!((1..EVENTS).contains(&withdrawn), "{withdrawn} were withdrawn: no race at all");
    assert_eq!(open_rows(&database), "0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_to_be_withdrawn_when_it_is_due_waits_for_how_that_ends() {
    const WHO: [&str; 4] = ["plain", "keyed", "late", "ear"];
    for (end, expected, keyed) in
        [("COMMIT", 0, false), ("ROLLBACK", 1, false), ("COMMIT", 0, true), ("ROLLBACK", 1, true)]
    {
        let database = SERVER.database().unwrap();
        let (bus, seen) =
            (Bus::open(&database.url("postgres-queue")).await.unwrap(), Seen::default());
        group(&bus, WHO[0], false, &seen).await;
        group(&bus, WHO[1], true, &seen).await;
        bus.on("t").run(seen.handler(WHO[3])).await.unwrap();
        let event = |id: &str| Event::new("t").id(id).key("k");
        let soon = event("soon").delay(Duration::from_secs(2)).payload(1);
        let first = event("first").payload(1);
        // What is at once shows that the groups have looked.
        for outcome in bus.publish_all(&[soon.into(), first.into()]).await {
            outcome.unwrap();
        }
        seen.wait_for("first", &WHO, &[1, 1, 0, 1]).await;
        let client = connect(&database).await;
        client.batch_execute("BEGIN").await.unwrap();
        let row = client.query_one("SELECT railbus.withdraw('soon')", &[]).await.unwrap();
        assert!(row.get::<_, bool>(0), "it is not due yet");
        group(&bus, WHO[2], keyed, &seen).await;
        bus.publish(event("behind it").payload(1)).await.unwrap();
        // sleep: until it has been due for some time, and was looked for.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(seen.of("soon", &WHO), [0; 4]);
        client.batch_execute(end).await.unwrap();
        bus.idle().await.unwrap();
        assert_eq!(seen.of("soon", &WHO), [expected; 4], "{end}");
        assert_eq!(seen.of("behind it", &WHO), [1; 4], "{end}");
        bus.close().await.unwrap();
        assert_eq!(open_rows(&database), "0|0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_out_is_not_withdrawn_though_the_servers_clock_is_set_back() {
    let database = SERVER.database().unwrap();
    let (bus, seen) = (Bus::open(&database.url("postgres-queue")).await.unwrap(), Seen::default());
    let held = Arc::new(tokio::sync::Notify::new());
    let (release, record) = (Arc::clone(&held), seen.handler("g"));
    let handler = async move |e: Event| {
        record(&e);
        release.notified().await;
    };
    bus.on("t").group("g").run(handler).await.unwrap();
    // Held back long enough for the group to look at it.
    let soon = Event::new("t").id("soon").delay(Duration::from_secs(1)).payload(1);
    bus.publish(soon).await.unwrap();
    seen.wait_for("soon", &["g"], &[1]).await;
    // As if it had been published for later: what is kept of its delivery says that somebody has it.
    database.psql("UPDATE railbus.events SET due = due + 3600000000").unwrap();
    assert!(!bus.withdraw("soon").await.unwrap());
    held.notify_one();
    bus.idle().await.unwrap();
    assert_eq!(seen.of("soon", &["g"]), [1]);
    bus.close().await.unwrap();
    assert_eq!(bus.withdraw("soon").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_have_the_id_and_are_early_are_withdrawn_and_ids_may_be_anything() {
    let database = SERVER.database().unwrap();
    let (bus, seen) = (Bus::open(&database.url("postgres-queue")).await.unwrap(), Seen::default());
    let hour = Duration::from_secs(3600);
    for id in ["a", "a", "'; DROP", "nul\0", "ü%_"] {
        bus.publish(Event::new("t").id(id).delay(hour).payload(1)).await.unwrap();
    }
    bus.publish(Event::new("t").id("a").payload(2)).await.unwrap();
    bus.on("t").run(seen.handler("ear")).await.unwrap();
    group(&bus, "g", false, &seen).await;
    for id in ["a", "'; DROP", "nul\0", "ü%_"] {
        assert!(bus.withdraw(id).await.unwrap(), "{id:?}");
        assert!(!bus.withdraw(id).await.unwrap(), "{id:?}");
    }
    bus.idle().await.unwrap();
    assert_eq!(seen.of("a", &["g"]), [1], "the one that was not held back");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_publish_may_not_withdraw() {
    let database = SERVER.database().unwrap();
    SERVER.role("writer", "w").unwrap();
    Bus::open(&database.url("postgres-queue")).await.unwrap().close().await.unwrap();
    database.psql(&grants("railbus", Grant::Publish, "writer")).unwrap();
    let bus = Bus::open(&database.url_as("postgres-queue", "writer", "w")).await.unwrap();
    let later = Event::new("t").id("later").delay(Duration::from_secs(3600)).payload(1);
    bus.publish(later).await.unwrap();
    let error = bus.withdraw("later").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    bus.close().await.unwrap();
}
