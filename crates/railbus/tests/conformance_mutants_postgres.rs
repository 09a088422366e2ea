//! The suite catches mutants of the backends on PostgreSQL.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{Mutant, Needs, all_are_caught, sane_passes};
use railbus::{Bus, conformance::Target};
use railbus_testbed::Postgres;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const THERE: [Needs; 3] = [Needs::Server, Needs::Password, Needs::Bytes];

fn server() -> Postgres {
    Postgres::options().password("s3cret").setting("max_connections", "300").start().unwrap()
}

/// Returns the URL of what no other mutant hears or sees.
fn url(server: &Postgres, scheme: &str) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    // A queue has no prefix.
    let prefix = if scheme == "postgres" { format!("&prefix=m{number}") } else { String::new() };
    format!("{}?schema=m{number}{prefix}", server.url(scheme))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_postgres_is_caught() {
    let server = server();
    sane_passes(&url(&server, "postgres"), &THERE).await;
    all_are_caught(|| url(&server, "postgres"), &THERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_postgres_queue_is_caught() {
    let server = server();
    sane_passes(&url(&server, "postgres-queue"), &THERE).await;
    all_are_caught(|| url(&server, "postgres-queue"), &THERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_known_to_be_another_is_not_blamed_for_it() {
    let server = server();
    let target = Target::url(&url(&server, "postgres-queue")).unwrap();
    mutants::passes_by_its_own_clock(target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_a_time_that_is_off_is_caught_though_the_server_might_have_another_clock() {
    let server = server();
    let target = Target::url(&url(&server, "postgres-queue")).unwrap();
    mutants::fails_by_the_clock(target, Mutant::ClockAhead).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_whose_own_clock_is_off_is_not_judged_by_that() {
    let server = server();
    let database = server.database().unwrap();
    let url = database.url("postgres-queue");
    Bus::open(&url).await.unwrap().close().await.unwrap();
    let ahead = "(extract(epoch FROM clock_timestamp() + interval '1 hour') * 1000000)::bigint";
    let spoilt =
        "CREATE OR REPLACE FUNCTION railbus.now_micros() RETURNS bigint LANGUAGE sql VOLATILE";
    database.psql(&format!("{spoilt} AS 'SELECT {}'", ahead.replace('\'', "''"))).unwrap();
    mutants::fails_by_the_clock(Target::url(&url).unwrap(), Mutant::Sane).await;
}
