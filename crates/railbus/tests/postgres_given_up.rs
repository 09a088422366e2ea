//! Statements that are given up, servers that are silent or let nobody in for a while, and settings
//! of roles and databases that are not what a queue needs.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event,
    backend::{Order, Start, Subscribe},
    backends,
    options::Options,
    predicate::Interest,
};
use railbus_testbed::{Database, Fault, Postgres, Proxy};
use std::{sync::LazyLock, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(database: &Database<'_>) -> Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn until(database: &Database<'_>, is_so: &str) {
    let asking = async {
        while database.psql(&format!("SELECT {is_so}")).unwrap().trim() != "t" {
            // sleep: nothing tells when the server is as far.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect(is_so);
}

/// Tells the id and the attempt of each event that a group gets.
async fn heard(bus: &Bus, group: Option<&str>) -> mpsc::UnboundedReceiver<(String, u32)> {
    let (seen, all) = mpsc::unbounded_channel();
    let on = bus.on("t");
    let on = if let Some(group) = group { on.group(group) } else { on };
    let handler = move |e: &Event| seen.send((e.id().to_owned(), 1)).unwrap();
    on.run(handler).await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_given_up_ends_at_the_server_too_and_leases_nothing() {
    let database = SERVER.database().unwrap();
    let url = format!("{}?statement_timeout=1s&poll=100ms", database.url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    bus.on("t").group("g").run(|_: &Event| ()).await.unwrap().cancel();
    let mut client = connect(&database).await;
    let transaction = client.transaction().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(railbus.lock_class(), 0)";
    transaction.query(lock, &[]).await.unwrap();
    // They are there, and nobody can put them in order.
    bus.publish(Event::new("t").id("1").payload(1)).await.unwrap();
    let waiting = "count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let nobody = waiting.replace("> 0", "= 0");
    // One that gives up, and one whose process ends while it waits.
    let other = backends::open(Options::parse(&url).unwrap()).await.unwrap();
    let member = Subscribe {
        group: Some("g".into()),
        interest: Interest::all(),
        start: Start::Oldest,
        lease: PATIENCE,
        order: Order::default(),
    };
    let late = other.subscribe(member).await.err().expect("nobody puts them in order");
    assert!(late.is_retryable(), "{late}");
    until(&database, &nobody).await;
    let claim = "SELECT * FROM railbus.claim(1, 7, 60000000, NULL, NULL, 10, 1000000, 0, -1, 0)";
    let (member, line) = tokio_postgres::connect(&database.url("postgres"), NoTls).await.unwrap();
    let line = tokio::spawn(async move { drop(line.await) });
    member.batch_execute("SET client_connection_check_interval = '100ms'").await.unwrap();
    let claiming = tokio::spawn(async move { member.query(claim, &[]).await.map(drop) });
    until(&database, waiting).await;
    line.abort();
    assert!(claiming.await.unwrap().is_err());
    until(&database, &nobody).await;
    transaction.commit().await.unwrap();
    other.close(PATIENCE).await.unwrap();
    assert_eq!(database.psql("SELECT count(*) FROM railbus.leases").unwrap().trim(), "0");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_silent_leaves_time_for_the_next() {
    let database = SERVER.database().unwrap();
    let proxy = Proxy::to(SERVER.address()).unwrap();
    proxy.fault(Fault::BlackHole);
    let (silent, real) = (proxy.address(), SERVER.address());
    for scheme in ["postgres", "postgres-queue"] {
        let name = database.name();
        let url = format!("{scheme}://postgres@{silent},{real}/{name}?connect_timeout=4s");
        let bus = Bus::open(&url).await.unwrap();
        bus.publish(Event::new("t").payload(1)).await.unwrap();
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_for_a_while_listens_again_afterwards() {
    let database = SERVER.database().unwrap();
    let role = format!("shut_out_{}", database.name());
    database
        .psql(&format!(
            "CREATE ROLE {role} LOGIN; GRANT ALL ON DATABASE {} TO {role}",
            database.name()
        ))
        .unwrap();
    let (owner, settings) =
        (Bus::open(&database.url("postgres")).await.unwrap(), "?connect_timeout=2s");
    let bus =
        Bus::open(&format!("{}{settings}", database.url_as("postgres", &role, ""))).await.unwrap();
    let mut all = heard(&bus, None).await;
    database.psql(&format!("ALTER ROLE {role} NOLOGIN")).unwrap();
    let end = format!(
        "bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    database.psql(&format!("SELECT {end}")).unwrap();
    // It is turned away for as long as it tries; that is told by the server's log alone.
    let turned_away = async {
        while !SERVER.log().contains(&format!("role \"{role}\" is not permitted to log in")) {
            // sleep: nothing tells when it was written.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, turned_away).await.unwrap();
    database.psql(&format!("ALTER ROLE {role} LOGIN")).unwrap();
    until(&database, &format!("count(*) > 0 FROM pg_stat_activity WHERE usename = '{role}'")).await;
    let hearing = async {
        loop {
            owner.publish(Event::new("t").id("again").payload(1)).await.unwrap();
            let one = timeout(Duration::from_millis(100), all.recv()).await;
            if let Ok(one) = one {
                return one.unwrap();
            }
        }
    };
    assert_eq!(timeout(PATIENCE, hearing).await.unwrap().0, "again");
    for bus in [owner, bus] {
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_works_where_the_database_asks_for_stricter_transactions() {
    let database = SERVER.database().unwrap();
    database
        .psql(&format!(
            "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'",
            database.name()
        ))
        .unwrap();
    let url = database.url("postgres-queue");
    let (bus, other) = (Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap());
    let (mut one, mut two) = (heard(&bus, Some("one")).await, heard(&other, Some("two")).await);
    let publishing: Vec<_> = [&bus, &other]
        .into_iter()
        .cloned()
        .map(|bus| {
            tokio::spawn(async move {
                for n in 0..300 {
                    bus.publish(Event::new("t").payload(n)).await.unwrap();
                }
            })
        })
        .collect();
    for task in publishing {
        task.await.unwrap();
    }
    for all in [&mut one, &mut two] {
        for _ in 0..600 {
            timeout(PATIENCE, all.recv()).await.expect("the group stands still").unwrap();
        }
    }
    for bus in [bus, other] {
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_another_user_has_put_in_public_are_not_called() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let mut all = heard(&bus, Some("g")).await;
    let trap = "CREATE FUNCTION public.lower(int8range) RETURNS bigint LANGUAGE plpgsql AS \
                $$ BEGIN RAISE EXCEPTION 'trapped'; END $$; \
                CREATE FUNCTION public.unnest(int8multirange) RETURNS SETOF int8range LANGUAGE plpgsql \
                AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$; \
                CREATE FUNCTION public.unnest(bytea[]) RETURNS SETOF bytea LANGUAGE plpgsql \
                AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$";
    database.psql(trap).unwrap();
    bus.publish(Event::new("t").payload(1)).await.unwrap();
    timeout(PATIENCE, all.recv()).await.unwrap().unwrap();
    // What psql calls has the session's path, and the functions their own.
    database.psql("SELECT railbus.tick()").unwrap();
    let publish = "SELECT railbus.publish(ARRAY['2'], ARRAY['t'], ARRAY['t'], NULL, NULL, \
                   ARRAY['{}'::bytea], NULL)";
    database.psql(publish).unwrap();
    bus.close().await.unwrap();
}
