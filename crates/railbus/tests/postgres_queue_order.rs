//! What is committed late is delivered all the same, and nobody waits for it.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, backends::postgres_queue::Outbox};
use railbus_testbed::{Database, Postgres};
use std::{collections::HashMap, sync::LazyLock, time::Duration};
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

async fn connect(database: &Database<'_>) -> Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Subscribes a group that tells the ids of what it gets.
async fn ids(bus: &Bus, group: &str) -> mpsc::UnboundedReceiver<String> {
    let (seen, all) = mpsc::unbounded_channel();
    bus.on("t")
        .group(group)
        .limit(1)
        .run(move |e: &Event| seen.send(e.id().to_owned()).unwrap())
        .await
        .unwrap();
    all
}

async fn next(all: &mut mpsc::UnboundedReceiver<String>) -> String {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

fn event(id: impl Into<String>) -> Event {
    Event::new("t").id(id.into()).payload(1)
}

fn count(database: &Database<'_>, what: &str) -> u64 {
    database.psql(&format!("SELECT count(*) FROM railbus.{what}")).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_transaction_commits_late_is_not_skipped_and_holds_up_nobody() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let (mut one, mut other) = (ids(&bus, "one").await, ids(&bus, "other").await);
    let (mut client, outbox) = (connect(&database).await, Outbox::new("railbus").unwrap());
    let late = client.transaction().await.unwrap();
    outbox.publish(&late, event("late")).await.unwrap();
    for n in 0..50 {
        bus.publish(event(format!("{n}"))).await.unwrap();
    }
    // All that came later are delivered while the first one's transaction is open.
    for n in 0..50 {
        assert_eq!(next(&mut one).await, format!("{n}"));
        assert_eq!(next(&mut other).await, format!("{n}"));
    }
    late.commit().await.unwrap();
    assert_eq!((next(&mut one).await, next(&mut other).await), ("late".into(), "late".into()));
    bus.publish(event("last")).await.unwrap();
    assert_eq!((next(&mut one).await, next(&mut other).await), ("last".into(), "last".into()));
    bus.close().await.unwrap();
    assert!(one.try_recv().is_err() && other.try_recv().is_err(), "nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rolled_back_leaves_a_gap_that_is_forgotten_once_no_transaction_is_as_old() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let mut all = ids(&bus, "g").await;
    let (mut client, mut old) = (connect(&database).await, connect(&database).await);
    // Has a transaction of its own, and nothing to do with the queue.
    let held = old.transaction().await.unwrap();
    held.execute("SELECT pg_current_xact_id()", &[]).await.unwrap();
    let outbox = Outbox::new("railbus").unwrap();
    let gone = client.transaction().await.unwrap();
    outbox.publish(&gone, event("never")).await.unwrap();
    gone.rollback().await.unwrap();
    let gaps = || {
        let newest = "SELECT coalesce((SELECT gaps + old FROM railbus.gaps), '{}')";
        database.psql(newest).unwrap().trim().to_owned()
    };
    for n in 0..5 {
        bus.publish(event(format!("{n}"))).await.unwrap();
        assert_eq!(next(&mut all).await, format!("{n}"));
    }
    assert_ne!(gaps(), "{}", "its place may be filled while the old transaction is open");
    held.rollback().await.unwrap();
    for n in 0..5 {
        bus.publish(event(format!("{n}"))).await.unwrap();
        assert_eq!(next(&mut all).await, format!("{n}"));
    }
    assert_eq!(gaps(), "{}");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_transactions_at_once_exactly_what_is_committed_arrives_in_each_ones_order() {
    const TASKS: usize = 12;
    const EACH: usize = 25;
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    let (bus, second) = (Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap());
    let (seen, mut all) = mpsc::unbounded_channel();
    // Two members of one group, so that claims of both meet.
    for bus in [&bus, &second] {
        let seen = seen.clone();
        bus.on("t")
            .group("g")
            .run(move |e: &Event| seen.send(e.id().to_owned()).unwrap())
            .await
            .unwrap();
    }
    let mut alone = ids(&bus, "alone").await;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let mut client = connect(&database).await;
        tasks.push(tokio::spawn(async move {
            let outbox = Outbox::new("railbus").unwrap();
            let mut committed = Vec::new();
            for n in 0..EACH {
                let transaction = client.transaction().await.unwrap();
                let mine = [format!("{task}-{n}-a"), format!("{task}-{n}-b")];
                for id in &mine {
                    outbox.publish(&transaction, event(id.as_str())).await.unwrap();
                    // sleep: transactions are to overlap, each in its own way.
                    tokio::time::sleep(Duration::from_millis((task * 7 + n * 3) as u64 % 11)).await;
                }
                if (task + n) % 3 == 0 {
                    transaction.rollback().await.unwrap();
                } else {
                    transaction.commit().await.unwrap();
                    committed.extend(mine);
                }
            }
            committed
        }));
    }
    let mut expected = Vec::new();
    for task in tasks {
        expected.push(task.await.unwrap());
    }
    let total = expected.iter().map(Vec::len).sum::<usize>();
    let (mut got, mut in_order) = (Vec::new(), HashMap::<String, Vec<String>>::new());
    for _ in 0..total {
        got.push(next(&mut all).await);
        let id = next(&mut alone).await;
        in_order.entry(id.split('-').next().unwrap().to_owned()).or_default().push(id);
    }
    bus.idle().await.unwrap();
    assert!(all.try_recv().is_err() && alone.try_recv().is_err(), "nothing comes twice");
    got.sort();
    let mut sorted = expected.concat();
    sorted.sort();
    assert_eq!(got, sorted);
    for (task, committed) in expected.iter().enumerate() {
        assert_eq!(&in_order[&task.to_string()], committed, "the order of one publisher");
    }
    bus.close().await.unwrap();
    second.close().await.unwrap();
    assert_eq!((count(&database, "leases"), count(&database, "deliveries")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_that_is_rolled_back_takes_its_events_alone() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let mut all = ids(&bus, "g").await;
    let (mut client, outbox) = (connect(&database).await, Outbox::new("railbus").unwrap());
    let mut transaction = client.transaction().await.unwrap();
    let inner = transaction.savepoint("first").await.unwrap();
    outbox.publish(&inner, event("lost")).await.unwrap();
    inner.rollback().await.unwrap();
    outbox.publish(&transaction, event("before")).await.unwrap();
    let inner = transaction.savepoint("second").await.unwrap();
    outbox.publish_all(&inner, [event("lost"), event("lost")]).await.unwrap();
    inner.rollback().await.unwrap();
    outbox.publish_all(&transaction, [event("after"), event("end")]).await.unwrap();
    transaction.commit().await.unwrap();
    for id in ["before", "after", "end"] {
        assert_eq!(next(&mut all).await, id);
    }
    bus.idle().await.unwrap();
    assert!(all.try_recv().is_err());
    bus.close().await.unwrap();
}
