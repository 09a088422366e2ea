//! Publishing in a transaction of one's own: rolled back, committed, cut off.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, ErrorKind, Event, backends::postgres_queue::Outbox};
use railbus_testbed::Postgres;
use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::LazyLock,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn ids(bus: &Bus) -> mpsc::UnboundedReceiver<String> {
    let (seen, all) = mpsc::unbounded_channel();
    bus.on("order.placed")
        .group("g")
        .run(move |e: &Event| seen.send(e.id().to_owned()).unwrap())
        .await
        .unwrap();
    all
}

fn placed(id: &str) -> Event {
    Event::new("order.placed").id(id).payload(1)
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published_and_what_is_committed_is_with_all_else() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let mut all = ids(&bus).await;
    database.psql("CREATE TABLE orders (id text)").unwrap();
    let mut client = connect(&database.url("postgres")).await;
    let outbox = Outbox::new("railbus").unwrap();
    for (id, commits) in [("1", false), ("2", true), ("3", false), ("4", true)] {
        let transaction = client.transaction().await.unwrap();
        transaction.execute("INSERT INTO orders VALUES ($1)", &[&id]).await.unwrap();
        outbox.publish(&transaction, placed(id)).await.unwrap();
        match commits {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }
    }
    let mut got = Vec::new();
    for _ in 0..2 {
        let one = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
        got.push(one.expect("nothing came").unwrap());
    }
    bus.idle().await.unwrap();
    assert!(all.try_recv().is_err());
    assert_eq!(got, ["2", "4"]);
    assert_eq!(database.psql("SELECT string_agg(id, ',') FROM orders").unwrap().trim(), "2,4");
    bus.close().await.unwrap();
}

#[tokio::test]
async fn an_event_that_is_not_valid_leaves_the_transaction_as_it_was() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let mut client = connect(&database.url("postgres")).await;
    let outbox = Outbox::new("railbus").unwrap();
    let transaction = client.transaction().await.unwrap();
    let events = [placed("fine"), Event::new("").payload(1)];
    let error = outbox.publish_all(&transaction, events).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidEvent);
    outbox.publish(&transaction, placed("alone")).await.unwrap();
    transaction.commit().await.unwrap();
    let stored = database.psql("SELECT string_agg(id, ',') FROM railbus.events").unwrap();
    assert_eq!(stored.trim(), "alone");
    assert_eq!(Outbox::new("no such; schema").unwrap_err().kind(), ErrorKind::Config);
    bus.close().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_told() {
    let database = SERVER.database().unwrap();
    let mut client = connect(&database.url("postgres")).await;
    let outbox = Outbox::new("elsewhere").unwrap();
    let transaction = client.transaction().await.unwrap();
    let error = outbox.publish(&transaction, placed("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

const PLACED: &str = "RAILBUS_TEST_OUTBOX";

/// Started as a process of its own: places orders, each with its event, until it is killed.
#[tokio::test]
async fn a_process_that_is_killed() {
    let Ok(url) = std::env::var(PLACED) else { return };
    let mut client = connect(&url).await;
    let outbox = Outbox::new("railbus").unwrap();
    for n in 0.. {
        let transaction = client.transaction().await.unwrap();
        let id = format!("{}-{n}", std::process::id());
        outbox.publish(&transaction, placed(&id)).await.unwrap();
        println!("placing");
        transaction.execute("INSERT INTO orders VALUES ($1)", &[&id]).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_between_loses_neither_and_leaves_no_half() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let mut all = ids(&bus).await;
    database.psql("CREATE TABLE orders (id text)").unwrap();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_that_is_killed", "--nocapture"])
            .env(PLACED, database.url("postgres"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Somewhere in a transaction, after a few that are through.
        let placing = lines.map(Result::unwrap).filter(|line| line == "placing");
        assert_eq!(placing.take(round * 7 + 1).count(), round * 7 + 1);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The server notices that the process is gone, and rolls back.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' \
                AND datname = current_database()";
    while database.psql(open).unwrap().trim() != "0" {
        tokio::task::yield_now().await;
    }
    let orders = database.psql("SELECT id FROM orders ORDER BY id COLLATE \"C\"").unwrap();
    let orders: Vec<_> = orders.lines().map(|line| line.trim().to_owned()).collect();
    assert!(orders.len() >= 50, "{} orders", orders.len());
    bus.idle().await.unwrap();
    let mut got = Vec::new();
    while let Ok(id) = all.try_recv() {
        got.push(id);
    }
    got.sort();
    assert_eq!(got, orders);
    bus.close().await.unwrap();
}
