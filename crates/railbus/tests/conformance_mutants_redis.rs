//! The suite catches mutants of the backends on Redis.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod mutants;

use mutants::{Needs, all_are_caught, sane_passes};
use railbus::conformance::Target;
use railbus_testbed::Redis;

const THERE: [Needs; 3] = [Needs::Server, Needs::Password, Needs::Bytes];

fn server() -> Redis {
    Redis::options().password("s3cret").start().unwrap()
}

/// Returns the URL of what no other mutant hears.
fn url(server: &Redis, scheme: &str) -> String {
    format!("{}?prefix=m{}", server.url(scheme), railbus::id::new_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_redis_is_caught() {
    let server = server();
    sane_passes(&url(&server, "redis"), &THERE).await;
    all_are_caught(|| url(&server, "redis"), &THERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_of_redis_streams_is_caught() {
    let server = server();
    sane_passes(&url(&server, "redis-streams"), &THERE).await;
    all_are_caught(|| url(&server, "redis-streams"), &THERE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_known_to_be_another_is_not_blamed_for_it() {
    let server = server();
    let target = Target::url(&url(&server, "redis-streams")).unwrap();
    mutants::passes_by_its_own_clock(target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_at_a_time_that_is_off_is_caught_though_the_server_might_have_another_clock() {
    let server = server();
    let target = Target::url(&url(&server, "redis-streams")).unwrap();
    mutants::fails_by_the_clock(target, mutants::Mutant::ClockAhead).await;
}
