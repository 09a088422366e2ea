//! The database file: who may read it, what is refused and why, old and new schemas, full disks.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    backend::LetterFilter,
    bus::Bus,
    error::{Error, ErrorKind},
    event::Event,
};
use rusqlite::Connection;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;

/// Waits for what must come; a test that waits in vain fails instead of hanging.
async fn next<T>(all: &mut mpsc::UnboundedReceiver<T>) -> T {
    let next = tokio::time::timeout(Duration::from_secs(60), all.recv()).await;
    next.expect("nothing came").expect("nobody sends any more")
}

const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema-v1.db");

async fn open(path: &Path) -> Result<Bus, Error> {
    Bus::open(&format!("sqlite:{}", path.display())).await
}

async fn refused(path: &Path) -> Error {
    let error = open(path).await.unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(error.advice().is_some(), "{error} has no hint");
    error
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.db");
    (folder, path)
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let (folder, path) = place();
    let bus = open(&path).await.unwrap();
    bus.publish(Event::new("a").payload(1)).await.unwrap();
    let mut files = 0;
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
        files += 1;
    }
    assert_eq!(files, 3, "the file, its log and its index");
    bus.close().await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "close leaves the file alone");
}

#[tokio::test]
async fn what_can_not_be_a_store_is_refused_and_left_as_it_was() {
    let (folder, path) = place();
    assert_eq!(refused(folder.path()).await.kind(), ErrorKind::Config);
    let nowhere = folder.path().join("no/such/folder/events.db");
    assert_eq!(refused(&nowhere).await.kind(), ErrorKind::NotFound);

    let text = "dear diary, this is not a database, but it is long enough to be one\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("not a SQLite database"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute("CREATE TABLE diary (day TEXT)", []).unwrap();
    let before = fs::read(&foreign).unwrap();
    let error = refused(&foreign).await;
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

#[tokio::test]
async fn a_read_only_file_is_refused_even_to_root() {
    let (_folder, path) = place();
    open(&path).await.unwrap().close().await.unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.advice().unwrap().contains("chmod u+w"));
}

#[tokio::test]
async fn a_damaged_file_is_told_and_not_a_panic() {
    let (_folder, path) = place();
    let bus = open(&path).await.unwrap();
    for n in 0..200 {
        bus.publish(Event::new("a").payload("x".repeat(1000 + n))).await.unwrap();
    }
    bus.close().await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for byte in &mut bytes[4096..] {
        *byte ^= 0xa5;
    }
    fs::write(&path, bytes).unwrap();
    let error = match open(&path).await {
        Err(e) => e,
        Ok(bus) => bus.publish(Event::new("a").payload(1)).await.unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.advice().unwrap().contains("recover"), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (_folder, path) = place();
    open(&path).await.unwrap().close().await.unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path).await;
    assert_eq!(error.kind(), ErrorKind::Version);
    assert!(error.to_string().contains("99"), "{error}");
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date_with_all_it_holds() {
    let (_folder, path) = place();
    fs::copy(OLD, &path).unwrap();
    // Two at once: one migrates, the other finds it done.
    let (one, two) = tokio::join!(open(&path), open(&path));
    let (one, two) = (one.unwrap(), two.unwrap());
    let keeper = one.keeper().unwrap();
    let groups = keeper.groups().await.unwrap();
    assert_eq!((groups[0].name.as_str(), groups[0].lag), ("fulfilment", 0));
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 8);
    assert!(letters.iter().any(|l| l.reason == "the card was declined"));
    let accounts = two.accounts().unwrap();
    let run = accounts.begin(&[("fulfilment".into(), groups[0].interest.clone())]).await.unwrap();
    assert_eq!(accounts.tally(run).await.unwrap(), railbus::backend::Tally::default());
    one.close().await.unwrap();
    two.close().await.unwrap();
    let version =
        |c: &Connection| c.pragma_query_value(None, "user_version", |r| r.get::<_, i32>(0));
    let store = Connection::open(&path).unwrap();
    assert_eq!(version(&store).unwrap(), 7);
    let begun = store.query_row("SELECT count(*) FROM timeline", [], |row| row.get::<_, i64>(0));
    assert_eq!(begun.unwrap(), i64::from(cfg!(target_os = "linux")));
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let (_folder, path) = place();
    fs::copy(OLD, &path).unwrap();
    let store = Connection::open(&path).unwrap();
    // In the way of a later statement of the migration.
    store.execute("ALTER TABLE runs ADD COLUMN swept TEXT", []).unwrap();
    let columns = || -> Vec<String> {
        let mut info = store.prepare("SELECT name FROM pragma_table_info('runs')").unwrap();
        info.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let before = columns();
    refused(&path).await;
    assert_eq!(columns(), before);
    let version: i32 = store.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 1);
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_nothing_confirmed_is_lost() {
    let (_folder, path) = place();
    let url = format!("sqlite:{}", path.display());
    let bus = Bus::open(&format!("{url}?max_size=400000")).await.unwrap();
    let mut confirmed = Vec::new();
    let error = loop {
        let id = format!("e-{}", confirmed.len());
        let event = Event::new("a").id(&id).payload(json!({ "pad": "x".repeat(5000) }));
        match bus.publish(event).await {
            Ok(_) => confirmed.push(id),
            Err(e) => break e,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.is_retryable() && error.advice().is_some());
    assert!(confirmed.len() > 10);
    bus.close().await.unwrap();

    let bus = Bus::open(&url).await.unwrap();
    let (seen, mut all) = mpsc::unbounded_channel();
    bus.on("a")
        .group("g")
        .run(move |e: &Event| seen.send(e.id().to_owned()).unwrap())
        .await
        .unwrap();
    let mut handled = Vec::new();
    while handled.len() < confirmed.len() {
        handled.push(next(&mut all).await);
    }
    bus.close().await.unwrap();
    assert!(all.try_recv().is_err());
    handled.sort();
    confirmed.sort();
    assert_eq!(handled, confirmed);
}

#[tokio::test]
async fn a_setting_that_is_unknown_or_wrong_names_itself_and_what_is_allowed() {
    let (_folder, path) = place();
    let url = format!("sqlite:{}", path.display());
    for (url, message, hint) in [
        (format!("{url}?retenton=1h"), "`retenton` is not a setting of sqlite", "`retention`"),
        (format!("{url}?synchronous=off"), "`off` is not a value of `synchronous`", "full, normal"),
        (format!("{url}?retention=soon"), "`soon` is not a duration", "24h"),
        (format!("{url}?retention"), "`retention` has no value", "key=value"),
        ("sqlite:".into(), "the path of the database file is missing", "sqlite:PATH"),
        ("sqlit:x.db".into(), "there is no backend `sqlit`", "did you mean `sqlite`"),
        ("orders.db".into(), "a bus URL starts with a scheme", "sqlite:PATH"),
        ("memory:x".into(), "memory has no address", "memory: alone"),
        ("memory:?wire=x".into(), "`x` is not a value of `wire`", "allowed: lazy, always"),
    ] {
        let error = Bus::open(&url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.advice().unwrap_or_default().contains(hint), "{error}: {:?}", error.advice());
    }
    assert!(!path.exists(), "a store is not made by mistake");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_file_at_once() {
    for _ in 0..20 {
        let (_folder, path) = place();
        let opening = (0..12).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { open(&path).await })
        });
        for opened in opening.collect::<Vec<_>>() {
            opened.await.unwrap().unwrap().close().await.unwrap();
        }
    }
}
