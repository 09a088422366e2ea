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

async fn connect(database: &Database<'_>) -> Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn hold(database: &Database<'_>) -> Client {
    let client = connect(database).await;
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

/// Publishes, claims, gives back, claims and settles an event so often, by the server's functions; and
/// keeps what that cost: how many entries of indexes were looked at in each half. Pages would not tell,
/// as there are many of what is dead in one.
const TWICE: &str = "DO $$
    DECLARE at_place bigint; of_seq bigint; one text[] := ARRAY['t']; all_before bigint := 0; BEGIN
    FOR n IN 1 .. 600 LOOP
        PERFORM railbus.publish(one, one, one, NULL, NULL, ARRAY[''::bytea], NULL); COMMIT;
        SELECT max(place) INTO at_place
        FROM railbus.claim(1, 2 * n, 30000000, NULL, NULL, 9, 9999, NULL, -1, 0); COMMIT;
        SELECT seq INTO STRICT of_seq FROM railbus.hold(1, ARRAY[2::bigint * n], ARRAY[at_place]);
        PERFORM railbus.resolve(
            1, 2 * n, at_place, of_seq, 1, 0, 30000000, 1, 0::smallint, false, NULL, NULL); COMMIT;
        SELECT max(place) INTO at_place
        FROM railbus.claim(1, 2 * n + 1, 30000000, NULL, NULL, 9, 9999, NULL, -1, 0); COMMIT;
        PERFORM railbus.settle(1, ARRAY[2::bigint * n + 1], ARRAY['{[' || at_place || ',' || at_place
            || ']}'], ARRAY[2::smallint], ARRAY[false]); COMMIT;
        IF n % 300 = 0 THEN
            INSERT INTO costs SELECT n / 300, sum(pg_stat_get_xact_tuples_returned(indexrelid)) - all_before
            FROM pg_stat_user_indexes WHERE schemaname = 'railbus' RETURNING entries + all_before
            INTO all_before; COMMIT;
        END IF;
    END LOOP; END $$";

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
    // What removal costs is shown by what is kept: here it would fall into either half.
    let url = format!("{}?retention=1h", database.url("postgres-queue"));
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
    let server = Postgres::options().setting("autovacuum", "off").start().unwrap();
    let database = server.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    bus.on("t").group("g").run(|_: &Event| ()).await.unwrap();
    bus.close().await.unwrap();
    let _held = hold(&database).await;
    let client = connect(&database).await;
    client.batch_execute("CREATE TEMP TABLE costs (half int, entries bigint)").await.unwrap();
    client.batch_execute(TWICE).await.unwrap();
    let costs = client.query("SELECT entries FROM costs ORDER BY half", &[]).await.unwrap();
    let [first, last] = [0, 1].map(|half| costs[half].get::<_, i64>(0));
    assert!(last < first * 3 / 2, "entries that the same number of events cost: {first}, {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_look_waited_for_is_not_what_it_takes() {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    bus.on("t").group("g").run(|_: &Event| ()).await.unwrap();
    bus.close().await.unwrap();
    let (holding, claiming) = (connect(&database).await, connect(&database).await);
    let hold = "BEGIN; SELECT pg_advisory_xact_lock(railbus.lock_class(), id + 16) \
                FROM railbus.groups";
    holding.batch_execute(hold).await.unwrap();
    let claim = "SELECT attempt, (1000 * extract(epoch FROM clock_timestamp() - now()))::integer \
                 FROM railbus.claim(1, 7, 60000000, NULL, NULL, 10, 1000000, 0, -1, 0)";
    let claimed = tokio::spawn(async move { claiming.query_one(claim, &[]).await.unwrap() });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    while database.psql(waits).unwrap().trim() != "1" {
        tokio::task::yield_now().await;
    }
    holding.batch_execute("SELECT pg_sleep(1); COMMIT").await.unwrap();
    let row = claimed.await.unwrap();
    let [took, all] = [0, 1].map(|column| row.get::<_, i32>(column));
    assert!(took < all / 2, "{took} of {all} ms");
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
