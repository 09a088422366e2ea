//! A transaction that is held open keeps the server from cleaning up: nothing gets slower by that,
//! neither what is acked at once, nor what is tried again, nor what keeps the order of keys.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus,
    backend::{Backend, Leased, Order, Outgoing, Settle, Source, Start, Subscribe, Verdict},
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

async fn member(backend: &Arc<dyn Backend>, order: Order) -> Arc<dyn Source> {
    let (interest, start) = (Interest::all(), Start::Oldest);
    let lease = Duration::from_secs(30);
    let group = Some("g".to_owned());
    backend.subscribe(Subscribe { group, interest, start, lease, order }).await.unwrap()
}

/// Publishes, claims and settles so many events together, so often.
async fn turn(backend: &Arc<dyn Backend>, source: &Arc<dyn Source>, events: usize, times: usize) {
    let events: Vec<Outgoing> = (0..events).map(|n| Event::new("t").payload(n).into()).collect();
    for _ in 0..times {
        assert!(backend.publish(&events).await.iter().all(Result::is_ok));
        let leased = source.fetch(100).await.unwrap();
        assert_eq!(leased.len(), events.len());
        settle(source, leased, Verdict::Ack).await;
    }
}

async fn settle(source: &Arc<dyn Source>, leased: Vec<Leased>, verdict: Verdict) {
    let all: Vec<_> = leased.into_iter().map(|l| Settle::new(l.receipt, verdict.clone())).collect();
    assert!(source.settle(&all).await.iter().all(Result::is_ok));
}

/// Publishes two events of each of two keys, and claims and settles one of each key and then the other,
/// so often.
async fn turn_by_key(backend: &Arc<dyn Backend>, source: &Arc<dyn Source>, times: usize) {
    let event = |n: usize| Event::new("t").key(format!("k{}", n % 2)).payload(n).into();
    let events: Vec<Outgoing> = (0..4).map(event).collect();
    for _ in 0..times {
        assert!(backend.publish(&events).await.iter().all(Result::is_ok));
        for _ in 0..2 {
            let leased = source.fetch(100).await.unwrap();
            assert_eq!(leased.len(), 2, "one of each key");
            settle(source, leased, Verdict::Ack).await;
        }
    }
}

/// Publishes an event that is settled the second time, so often.
async fn turn_twice(backend: &Arc<dyn Backend>, source: &Arc<dyn Source>, times: usize) {
    let events: [Outgoing; 1] = [Event::new("t").payload(1).into()];
    for _ in 0..times {
        assert!(backend.publish(&events).await.iter().all(Result::is_ok));
        let again = source.fetch(100).await.unwrap();
        settle(source, again, Verdict::Nack { delay: Duration::ZERO }).await;
        let again = source.fetch(100).await.unwrap();
        assert_eq!((again.len(), again[0].attempt), (1, 2));
        settle(source, again, Verdict::Ack).await;
    }
}

/// How many pages of the queue's tables and indexes were looked at by sessions that have ended.
fn pages(database: &Database<'_>) -> u64 {
    let all = "SELECT sum(coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0) \
               + coalesce(idx_blks_hit, 0) + coalesce(idx_blks_read, 0)) \
               FROM pg_statio_all_tables WHERE schemaname = 'railbus'";
    database.psql(all).unwrap().trim().parse().unwrap()
}

/// How events are settled.
#[derive(Clone, Copy)]
enum Way {
    AtOnce,
    ByKey,
    Twice,
}

/// Lets half of the events through; returns how many pages that took.
async fn half(database: &Database<'_>, url: &str, way: Way) -> u64 {
    let before = pages(database);
    let backend = backends::open(Options::parse(url).unwrap()).await.unwrap();
    let order = if matches!(way, Way::ByKey) { Order::ByKey } else { Order::default() };
    let source = member(&backend, order).await;
    match way {
        Way::AtOnce => turn(&backend, &source, 1, TIMES).await,
        Way::ByKey => turn_by_key(&backend, &source, TIMES / 4).await,
        Way::Twice => turn_twice(&backend, &source, TIMES / 4).await,
    }
    // Sessions report what they did when they end.
    backend.close(Duration::from_secs(5)).await.unwrap();
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'railbus'";
    while database.psql(open).unwrap().trim() != "0" {
        tokio::task::yield_now().await;
    }
    pages(database) - before
}

async fn costs_the_same(way: Way) {
    // It can't clean up anyway, and looks at all pages to find that out.
    let server = Postgres::options().setting("autovacuum", "off").start().unwrap();
    let database = server.database().unwrap();
    let _held = hold(&database).await;
    let url = format!("{}?retention=4s", database.url("postgres-queue"));
    Bus::open(&url).await.unwrap().close().await.unwrap();
    let (first, last) = (half(&database, &url, way).await, half(&database, &url, way).await);
    assert!(last < first * 3 / 2, "pages that the same number of events cost: {first}, {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_events_cost_what_the_first_did_while_a_transaction_is_held_open() {
    costs_the_same(Way::AtOnce).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_those_that_keep_the_order_of_keys() {
    costs_the_same(Way::ByKey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_do_those_that_are_tried_again() {
    costs_the_same(Way::Twice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_is_removed_by_and_by() {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let url = format!("{}?retention=200ms", database.url("postgres-queue"));
    let backend = backends::open(Options::parse(&url).unwrap()).await.unwrap();
    let source = member(&backend, Order::default()).await;
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
