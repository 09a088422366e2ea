//! Very many events through one queue: the last tenth is as quick as the first, also while a
//! transaction is held open. `cargo xtask stress` runs ten million, or as many as
//! `RAILBUS_STRESS_CYCLES` says, and shows the rate of each tenth with what the tables have grown to.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event};
use railbus_testbed::{Database, Postgres};
use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tokio_postgres::NoTls;

/// How many events are published and not handled yet, at most.
const AHEAD: usize = 5_000;

/// How many one call publishes.
const BATCH: u64 = 100;

/// What there is of tables and their indexes, and how many rows of them are dead.
const GROWN: &str = "SELECT string_agg(relname || ' ' || pg_table_size(relid) / 1024 || '+' \
    || pg_indexes_size(relid) / 1024 || ' KiB, ' || n_live_tup || ' rows, ' || n_dead_tup || ' dead', \
    '; ' ORDER BY relname) FROM pg_stat_user_tables \
    WHERE schemaname = 'railbus' AND pg_total_relation_size(relid) > 200000";

fn cycles() -> u64 {
    let said = env::var("RAILBUS_STRESS_CYCLES").ok().map(|text| text.parse().unwrap());
    said.unwrap_or(if env::var_os("RAILBUS_STRESS").is_some() { 10_000_000 } else { 20_000 })
}

/// Holds a transaction open that has seen the database as it is now.
async fn hold(database: &Database<'_>) -> tokio_postgres::Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    client.batch_execute(begin).await.unwrap();
    client
}

/// Puts all through, and returns how many a second of each tenth.
async fn rates(bus: &Bus, all: u64, by_key: bool) -> Vec<f64> {
    let (handled, room) = (Arc::<AtomicU64>::default(), Arc::new(Semaphore::new(AHEAD)));
    let (count, more) = (Arc::clone(&handled), Arc::clone(&room));
    let handler = move |_: &Event| {
        count.fetch_add(1, SeqCst);
        more.add_permits(1);
    };
    let on = bus.on("t").group("g").limit(500);
    let on = if by_key { on.ordered_by_key() } else { on };
    on.run(handler).await.unwrap();
    let publishing = async {
        let publishing: Vec<_> = (0..4)
            .map(|_| {
                let (bus, room) = (bus.clone(), Arc::clone(&room));
                tokio::spawn(async move {
                    for _ in 0..all / 4 / BATCH {
                        room.acquire_many(BATCH as u32).await.unwrap().forget();
                        let event = |n| match by_key {
                            true => Event::new("t").key(format!("k{n}")).payload(n),
                            false => Event::new("t").payload(n),
                        };
                        let batch: Vec<_> = (0..BATCH).map(|n| event(n).into()).collect();
                        for published in bus.publish_all(&batch).await {
                            published.unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in publishing {
            task.await.unwrap();
        }
    };
    let measuring = async {
        let (mut rates, mut last) = (Vec::new(), (Instant::now(), 0));
        while rates.len() < 10 {
            // sleep: a look at a count, often enough for tenths that take a second.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = handled.load(SeqCst);
            if now >= all / 10 * (rates.len() as u64 + 1) {
                let rate = (now - last.1) as f64 / last.0.elapsed().as_secs_f64();
                println!("  {now} events, {rate:.0}/s");
                rates.push(rate);
                last = (Instant::now(), now);
            }
        }
        rates
    };
    let (rates, ()) = tokio::join!(measuring, publishing);
    bus.idle().await.unwrap();
    assert_eq!(handled.load(SeqCst), all, "each once");
    rates
}

/// Compares the last tenth with one of those before.
async fn slope(all: u64, holds: bool, by_key: bool, with: usize) {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let url = format!("{}?retention=10s", database.url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    let held = if holds { Some(hold(&database).await) } else { None };
    println!("{all} cycles, a transaction held open: {holds}, order by key: {by_key}");
    let rates = rates(&bus, all, by_key).await;
    let slope = rates[9] / rates[with];
    println!("  last tenth / tenth {}: {slope:.2}", with + 1);
    println!("  {}", database.psql(GROWN).unwrap());
    let first: u64 =
        database.psql("SELECT min(place) FROM railbus.log").unwrap().trim().parse().unwrap();
    drop(held);
    bus.close().await.unwrap();
    // Few are over before anything can slope; other builds make a rate waver as well.
    if env::var_os("RAILBUS_STRESS").is_some() {
        assert!(slope >= 0.9, "the last tenth is {slope:.2} times as quick as tenth {}", with + 1);
        assert!(first > all / 10, "retention is behind: place {first} is there still");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_very_many_events_are_as_quick_as_the_first() {
    slope(cycles(), false, false, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_so_while_a_transaction_is_held_open() {
    slope(cycles(), true, false, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_so_in_the_order_of_their_keys_as_well() {
    // Each has rows of its own, so that a fifth of them is more work. All keys begin in step, and are
    // settled by the hundred; then they get out of step, with or without a transaction held open.
    slope(cycles() / 5, true, true, 3).await;
}
