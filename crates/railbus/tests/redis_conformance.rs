//! The suite on Redis: each backend passes what it claims and refuses the rest.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

use railbus::conformance::{Certificate, Counts, Status, Suite, Target};
use railbus_testbed::Redis;

async fn run(url: &str) -> Certificate {
    let stress = std::env::var_os("RAILBUS_STRESS").is_some();
    let counts = if stress { Counts::stress() } else { Counts::short() };
    Suite::new(Target::url(url).unwrap()).counts(counts).run().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_passes_all_it_claims() {
    let redis = Redis::start().unwrap();
    let certificate = run(&redis.url("redis")).await;
    assert!(certificate.is_conformant(), "{}", certificate.to_markdown());
    assert_eq!(certificate.count(Status::NotRun), 0, "{}", certificate.to_markdown());
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_streams_passes_all_it_claims() {
    let redis = Redis::start().unwrap();
    let certificate = run(&redis.url("redis-streams")).await;
    assert!(certificate.is_conformant(), "{}", certificate.to_markdown());
    assert_eq!(certificate.count(Status::Refused), 0, "{}", certificate.to_markdown());
}
