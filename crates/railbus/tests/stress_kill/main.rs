//! Programs and servers killed with SIGKILL at random points, while others publish and handle: what
//! was confirmed is handled, nothing else is, and what is kept stays sound.
//!
//! `RAILBUS_STRESS=1` makes it ten minutes a backend, `RAILBUS_SEED` repeats a run's choices.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chaos;
mod ledger;
mod roles;

use chaos::{Chaos, Fleet};
use ledger::Ledger;
use std::time::Duration;

/// How long a backend is under load: on a server longer, since a server's end takes its time.
fn load(short: u64) -> Duration {
    let stress = std::env::var_os("RAILBUS_STRESS").is_some();
    Duration::from_secs(if stress { 600 } else { short })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role() {
    roles::play().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_loses_nothing_when_publishers_and_consumers_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("events.db");
    let fleet = Fleet::new(format!("sqlite:{}", store.display()), Ledger::of(folder.path()));
    Chaos::new(load(3), None).run(fleet).await;
    let store = rusqlite::Connection::open(store).unwrap();
    let sound: String = store.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_writes_its_log_loses_nothing_when_anybody_is_killed() {
    let redis = railbus_testbed::Redis::options().appendonly(true).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new(redis.url("redis-streams"), Ledger::of(folder.path()));
    Chaos::new(load(20), Some(Box::new(redis))).run(fleet).await;
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_loses_nothing_when_anybody_is_killed() {
    let postgres = railbus_testbed::Postgres::options().setting("fsync", "on").start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fleet = Fleet::new(postgres.url("postgres-queue"), Ledger::of(folder.path()));
    Chaos::new(load(20), Some(Box::new(postgres))).run(fleet).await;
}
