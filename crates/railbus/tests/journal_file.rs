//! The journal of runs in a file: one that is full, and one of an older schema.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind,
    backend::{Begun, Journal, NewRun, Record, RunLease, RunState},
    store,
};
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    (folder, path)
}

async fn open(path: &Path, settings: &str) -> (Bus, Arc<dyn Journal>) {
    let bus = Bus::open(&format!("sqlite:{}{settings}", path.display())).await.unwrap();
    let journal = bus.journal().unwrap();
    (bus, journal)
}

async fn begin(journal: &dyn Journal, id: &str, pipeline: &str) -> RunLease {
    match journal.begin(&NewRun::new(id, pipeline, format!("graph of {pipeline}"))).await.unwrap() {
        Begun::New(lease) | Begun::Resumed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_what_was_confirmed_stays() {
    let (_folder, path) = place();
    let (_bus, journal) = open(&path, "?max_size=600000").await;
    let lease = begin(&*journal, "r", "orders").await;
    let mut confirmed = 0;
    let error = loop {
        let mut record = Record::new(format!("step-{confirmed}"), 1);
        record.values = store! { "pad" => "x".repeat(5000) };
        match journal.record(&lease, &[record]).await {
            Ok(_) => confirmed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.is_retryable() && error.advice().is_some());
    assert!(confirmed > 10);
    assert_eq!(journal.load("r").await.unwrap().unwrap().records.len(), confirmed);
}

#[tokio::test]
async fn a_file_of_the_third_schema_gets_a_journal_and_keeps_all_it_holds() {
    let (_folder, path) = place();
    let old = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema-v3.db");
    fs::copy(old, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // Two at once: one migrates, the other finds it done.
    let ((one, ours), (two, theirs)) = tokio::join!(open(&path, ""), open(&path, ""));
    let groups = one.keeper().unwrap().groups().await.unwrap();
    let group = &groups[0];
    assert_eq!((&*group.name, group.lag, group.dead_letters), ("fulfilment", 2, 6));
    let position = two.accounts().unwrap().position("/shop/orders.ndjson").await.unwrap();
    assert_eq!(position.unwrap().offset, 3376);
    begin(&*ours, "r", "orders").await;
    assert_eq!(theirs.find("r").await.unwrap().unwrap().run.state, RunState::Running);
    for bus in [one, two] {
        bus.close().await.unwrap();
    }
    let store = Connection::open(&path).unwrap();
    let version: i32 = store.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 7);
    let migrated = schema(&store);
    let (fresh, _) = open(&path.with_file_name("fresh.db"), "").await;
    fresh.close().await.unwrap();
    let fresh = Connection::open(path.with_file_name("fresh.db")).unwrap();
    assert_eq!(migrated, schema(&fresh));
}

fn schema(store: &Connection) -> Vec<String> {
    let mut all =
        store.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1").unwrap();
    all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}
