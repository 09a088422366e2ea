//! The suite catches mutants of the backends on PostgreSQL.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{Mutant, Needs, all_are_caught, less_is_enough, sane_passes};
use railbus::conformance::Target;
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
async fn a_server_with_another_clock_is_not_blamed_for_it() {
    let server = server();
    let target = Target::url(&url(&server, "postgres-queue")).unwrap();
    less_is_enough(target, Mutant::ClockAhead, &["late subscriber"], &[]).await;
}
