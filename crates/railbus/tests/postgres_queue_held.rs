//! A transaction that is held open keeps the server from cleaning up: what is acked at once gets no
//! slower, and nothing waits.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus,
    backend::{Backend, Outgoing, Settle, Source, Start, Subscribe, Verdict},
    backends,
    event::Event,
    options::Options,
    predicate::Interest,
};
use railbus_testbed::{Database, Postgres};
use std::{sync::Arc, time::Duration};
use tokio_postgres::{Client, NoTls};

/// How often something is published, claimed and settled in each half: enough for what grows with
/// each to show.
const TIMES: usize = 3_000;

async fn hold(database: &Database<'_>) -> Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client.batch_execute("CREATE TABLE other (n int)").await.unwrap();
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    client.batch_execute("INSERT INTO other VALUES (1)").await.unwrap();
    client
}

async fn member(backend: &Arc<dyn Backend>) -> Arc<dyn Source> {
    let (interest, start) = (Interest::all(), Start::Oldest);
    let lease = Duration::from_secs(30);
    let group = Some("g".to_owned());
    backend
        .subscribe(Subscribe { group, interest, start, lease, order: Default::default() })
        .await
        .unwrap()
}

/// Publishes, claims and settles so many events together, so often.
async fn turn(backend: &Arc<dyn Backend>, source: &Arc<dyn Source>, events: usize, times: usize) {
    let events: Vec<Outgoing> = (0..events).map(|n| Event::new("t").payload(n).into()).collect();
    for _ in 0..times {
        assert!(backend.publish(&events).await.iter().all(Result::is_ok));
        let leased = source.fetch(100).await.unwrap();
        assert_eq!(leased.len(), events.len());
        let acks: Vec<_> =
            leased.into_iter().map(|l| Settle::new(l.receipt, Verdict::Ack)).collect();
        assert!(source.settle(&acks).await.iter().all(Result::is_ok));
    }
}

/// How many pages of the queue's tables and indexes were looked at by sessions that have ended.
fn pages(database: &Database<'_>) -> u64 {
    let all = "SELECT sum(coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0) \
               + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0)) \
               FROM pg_statio_all_tables WHERE schemaname = 'railbus'";
    database.psql(all).unwrap().trim().parse().unwrap()
}

/// Lets half of the events through; returns how many pages that took.
async fn half(database: &Database<'_>, url: &str) -> u64 {
    let before = pages(database);
    let backend = backends::open(Options::parse(url).unwrap()).await.unwrap();
    let source = member(&backend).await;
    turn(&backend, &source, 1, TIMES).await;
    // Sessions report what they did when they end.
    backend.close(Duration::from_secs(5)).await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'railbus'";
    while database.psql(open).unwrap().trim() != "0" {
        tokio::task::yield_now().await;
    }
    pages(database) - before
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_events_cost_what_the_first_did_while_a_transaction_is_held_open() {
    // It can't clean up anyway, and looks at all pages to find that out.
    let server = Postgres::options().setting("autovacuum", "off").start().unwrap();
    let database = server.database().unwrap();
    let _held = hold(&database).await;
    let url = format!("{}?retention=4s", database.url("postgres-queue"));
    Bus::open(&url).await.unwrap().close().await.unwrap();
    let (first, last) = (half(&database, &url).await, half(&database, &url).await);
    assert!(last < first * 3 / 2, "pages that the same number of events cost: {first}, {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_removed_by_and_by() {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let url = format!("{}?retention=200ms", database.url("postgres-queue"));
    let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
    let source = member(&backend).await;
    turn(&backend, &source, 20, 100).await;
    let left = || {
        let of = |table: &str| {
            let count = format!("SELECT count(*) FROM railbus.{table}");
            database.psql(&count).unwrap().trim().parse::<u64>().unwrap()
        };
        (of("events"), of("batches"), of("log"), of("leases"), of("deliveries"), of("cursors"))
    };
    let gone = async {
        // The newest batch says where to look for more.
        while left().0 > 0 || left().2 > 1 || left().1 > 1 {
            // sleep: retention is a matter of time.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
    assert!(gone.is_ok(), "events, batches, log, leases, deliveries, cursors: {:?}", left());
    assert_eq!((left().3, left().4, left().5), (0, 0, 1));
    // It goes on as before.
    turn(&backend, &source, 20, 100).await;
    backend.close(Duration::from_secs(5)).await.unwrap();
}
