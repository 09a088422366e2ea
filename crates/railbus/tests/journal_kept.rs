//! What a journal on sqlite keeps for how long, how it is listed, and what is wrong with a file.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind,
    backend::{Begun, Journal, NewRun, Record, RunEnd, RunFilter, RunLease, RunState},
    store,
};
use rusqlite::Connection;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
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

fn execute(path: &Path, statement: &str) {
    let store = Connection::open(path).unwrap();
    store.busy_timeout(Duration::from_secs(10)).unwrap();
    store.execute_batch(statement).unwrap();
}

fn count(path: &Path, table: &str) -> i64 {
    let store = Connection::open(path).unwrap();
    store.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn records(n: usize) -> Vec<Record> {
    (0..n).map(|n| Record::new(format!("each#{n}"), 1)).collect()
}

/// Begins ten runs: of every end one, one that was left and one that runs, and three of another
/// pipeline.
async fn ten(path: &Path, journal: &dyn Journal) {
    begin(journal, "left", "orders").await;
    execute(path, "UPDATE journal SET until = 0");
    for how in
        [RunEnd::Success, RunEnd::Failure, RunEnd::Exception, RunEnd::Stopped, RunEnd::Cancelled]
    {
        let lease = begin(journal, how.name(), "orders").await;
        let _ = journal.record(&lease, &records(3)).await.unwrap();
        journal.end(&lease, how, None).await.unwrap();
    }
    begin(journal, "running", "orders").await;
    for n in 0..3 {
        begin(journal, &format!("mail-{n}"), "mail.daily").await;
    }
}

async fn ids(journal: &dyn Journal, filter: &RunFilter) -> String {
    let found = journal.list(filter).await.unwrap();
    found.iter().map(|run| run.id.as_str()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn runs_are_listed_newest_first_by_page_state_and_pipeline() {
    let (_folder, path) = place();
    let (_bus, journal) = open(&path, "").await;
    ten(&path, &*journal).await;
    let all = "mail-2 mail-1 mail-0 running cancelled stopped exception failure success left";
    assert_eq!(ids(&*journal, &RunFilter::default()).await, all);
    let mut pages = Vec::new();
    let mut page = RunFilter { limit: Some(3), ..RunFilter::default() };
    loop {
        let found = journal.list(&page).await.unwrap();
        assert!(found.len() <= 3);
        let Some(last) = found.last() else { break };
        page.after = Some(last.id.clone());
        pages.extend(found.into_iter().map(|run| run.id));
    }
    assert_eq!(pages.join(" "), all);
    let of = |pipeline: Option<&str>, states: &[&str]| RunFilter {
        pipeline: pipeline.map(Into::into),
        states: states.iter().map(|state| state.parse().unwrap()).collect(),
        ..RunFilter::default()
    };
    assert_eq!(ids(&*journal, &of(Some("mail.*"), &[])).await, "mail-2 mail-1 mail-0");
    assert_eq!(ids(&*journal, &of(None, &["left"])).await, "left");
    assert_eq!(ids(&*journal, &of(Some("orders"), &["running", "left"])).await, "running left");
    assert_eq!(ids(&*journal, &of(None, &["stopped", "left"])).await, "stopped left");
    let one = RunFilter { id: Some("failure".into()), ..RunFilter::default() };
    assert_eq!(ids(&*journal, &one).await, "failure");
    let lost = RunFilter { after: Some("gone".into()), ..RunFilter::default() };
    assert_eq!(journal.list(&lost).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!("lfet".parse::<RunState>().unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn pruning_deletes_whole_runs_that_have_ended_and_none_that_runs() {
    let (_folder, path) = place();
    let (_bus, journal) = open(&path, "").await;
    ten(&path, &*journal).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(journal.prune(&RunFilter::default(), hour).await.unwrap(), 0);
    execute(&path, "UPDATE journal SET touched = 0 WHERE id = 'failure'");
    assert_eq!(journal.prune(&RunFilter::default(), hour).await.unwrap(), 1);
    assert!(journal.find("failure").await.unwrap().is_none());
    let limited = RunFilter { limit: Some(2), ..RunFilter::default() };
    assert_eq!(journal.prune(&limited, Duration::ZERO).await.unwrap(), 2);
    assert_eq!(journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap(), 2);
    let kept = "mail-2 mail-1 mail-0 running left";
    assert_eq!(ids(&*journal, &RunFilter::default()).await, kept);
    assert_eq!((count(&path, "journal_records"), count(&path, "journal_trash")), (0, 0));
    assert_eq!((count(&path, "journal_inputs"), count(&path, "shapes")), (5, 2));
    let every = RunFilter {
        states: vec![RunState::Running, RunState::Left],
        pipeline: Some("*".into()),
        ..RunFilter::default()
    };
    assert_eq!(journal.prune(&every, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(ids(&*journal, &RunFilter::default()).await, "mail-2 mail-1 mail-0 running");
    // Its id is free again.
    let again = journal.begin(&NewRun::new("left", "orders", "graph of orders")).await.unwrap();
    assert!(matches!(again, Begun::New(_)));
    assert!(journal.load("left").await.unwrap().unwrap().records.is_empty());
}

#[tokio::test]
async fn a_run_of_many_records_is_read_and_deleted_in_parts() {
    let (_folder, path) = place();
    let (_bus, journal) = open(&path, "").await;
    let lease = begin(&*journal, "r", "each").await;
    for part in records(5000).chunks(700) {
        let _ = journal.record(&lease, part).await.unwrap();
    }
    let found = journal.load("r").await.unwrap().unwrap();
    assert!(found.records.iter().map(|one| one.number).eq(1..=5000));
    assert_eq!(found.records[4321].record.path, "each#4321");
    let some = journal.records("r", 4998, 1000).await.unwrap();
    assert_eq!(some.len(), 2);
    journal.end(&lease, RunEnd::Success, None).await.unwrap();
    journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap();
    assert_eq!((count(&path, "journal_records"), count(&path, "journal_trash")), (0, 0));
}

#[tokio::test]
async fn retention_lets_go_what_has_ended_and_nothing_else() {
    let (_folder, path) = place();
    let (bus, journal) = open(&path, "").await;
    ten(&path, &*journal).await;
    bus.close().await.unwrap();
    let (_bus, journal) = open(&path, "?journal_retention=100ms").await;
    let began = Instant::now();
    while count(&path, "journal") > 5 || count(&path, "journal_records") > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "what has ended stays");
        // sleep: between looks at a file that another thread changes.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = "mail-2 mail-1 mail-0 running left";
    assert_eq!(ids(&*journal, &RunFilter::default()).await, kept);
}

#[tokio::test]
async fn what_someone_changed_in_the_file_is_an_error_and_spoils_no_other_run() {
    let (_folder, path) = place();
    let (_bus, journal) = open(&path, "").await;
    let sound = begin(&*journal, "sound", "orders").await;
    let _ = journal.record(&sound, &records(1)).await.unwrap();
    for (n, damage) in [
        "UPDATE journal_records SET body = 'not json'",
        "UPDATE journal_records SET body = x'ff00'",
        "UPDATE journal_records SET body = '{\"status\":\"perhaps\"}'",
        "UPDATE journal_records SET visit = -3",
        "UPDATE journal_inputs SET input = '[1]'",
        "DELETE FROM journal_inputs",
        "UPDATE journal SET shape = 99",
        "UPDATE journal SET state = 'perhaps'",
        "UPDATE journal SET until = 'soon'",
        "UPDATE journal SET error = '}'",
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("r-{n}");
        let lease = begin(&*journal, &id, "orders").await;
        let _ = journal.record(&lease, &records(2)).await.unwrap();
        let key = if damage.contains("UPDATE journal SET") { "number" } else { "run" };
        execute(&path, &format!("{damage} WHERE {key} = (SELECT max(number) FROM journal)"));
        let error = journal.load(&id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{damage}: {error}");
        assert!(error.advice().is_some() && error.to_string().contains("runs.db"), "{error}");
        let beside = journal.load("sound").await.unwrap().unwrap();
        assert_eq!(beside.records.len(), 1);
        // Whatever it is told, it must not take others along.
        let _ = journal.record(&lease, &records(3)).await;
        let _ = journal.begin(&NewRun::new(&id, "orders", "graph of orders")).await;
        let _ = journal.cancel(&id).await;
        assert!(journal.record(&sound, &records(1)).await.is_ok(), "{damage}");
        execute(&path, &format!("DELETE FROM journal WHERE id = '{id}'"));
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
async fn a_journal_outlives_its_bus_as_an_error() {
    let (_folder, path) = place();
    let (bus, journal) = open(&path, "").await;
    let lease = begin(&*journal, "r", "orders").await;
    bus.close().await.unwrap();
    let errors = [
        journal.record(&lease, &records(1)).await.unwrap_err(),
        journal.renew(&lease).await.unwrap_err(),
        journal.load("r").await.unwrap_err(),
        journal.list(&RunFilter::default()).await.unwrap_err(),
        journal.prune(&RunFilter::default(), Duration::ZERO).await.unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Closed), "{errors:?}");
    // The bus itself says the same, not that it has no journal.
    let error = bus.journal().unwrap().load("r").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);

    let (dropped, journal) = open(&path, "").await;
    drop(dropped);
    let began = Instant::now();
    while journal.load("r").await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "a journal keeps its store open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_backend_without_a_journal_says_who_has_one() {
    let error = Bus::new().journal().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "journal: memory keeps no runs");
    assert_eq!(error.advice(), Some("use a backend that does: sqlite"));
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
    assert_eq!(version, 5);
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
