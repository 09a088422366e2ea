//! The tables of a queue: made once by many, refused where they are not its own, used by roles that
//! may do no more than they must.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::LetterFilter,
    backends::postgres_queue::{Grant, Outbox, grants, migrate, script},
    options::Options,
    testing::Recorder,
};
use railbus_testbed::{Database, Postgres};
use std::sync::LazyLock;
use tokio_postgres::NoTls;

static SERVER: LazyLock<Postgres> =
    LazyLock::new(|| Postgres::options().password("secret").start().unwrap());

/// The tables as the first version made them.
const V1: &str = include_str!("data/queue_v1.sql");

/// All that a schema consists of.
const SHAPE: &str = "SELECT * FROM (
    SELECT 'column ' || table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable
        || coalesce(column_default, '') AS part
    FROM information_schema.columns WHERE table_schema = 'railbus'
    UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'railbus'
    UNION ALL SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_proc p
        WHERE p.pronamespace = 'railbus'::regnamespace) AS s ORDER BY part";

/// The version that this build makes.
fn newest() -> i32 {
    (0..).take_while(|version| script("railbus", *version).is_ok()).last().unwrap()
}

/// All versions up to it, a line each.
fn all() -> String {
    (1..=newest()).map(|version| version.to_string()).collect::<Vec<_>>().join("\n")
}

fn versions(database: &Database<'_>) -> String {
    database
        .psql("SELECT version FROM railbus.migrations ORDER BY version")
        .unwrap()
        .trim()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_open_a_new_database_at_once_make_its_tables_once() {
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    let opening: Vec<_> = (0..12)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Bus::open(&url).await })
        })
        .collect();
    for opened in opening {
        opened.await.unwrap().unwrap().close().await.unwrap();
    }
    assert_eq!(versions(&database), all());
    let options = Options::parse(&url).unwrap();
    assert_eq!(migrate(&options, &[]).await.unwrap(), (newest(), newest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_each_older_version_are_brought_up_to_date_with_all_that_is_in_them() {
    let database = SERVER.database().unwrap();
    database.psql(V1).unwrap();
    let published = "SELECT railbus.publish(ARRAY['old', 'held back'], ARRAY['t', 't'], \
                     ARRAY['t', 't'], ARRAY['k', 'k'], ARRAY[NULL, 3600000000], \
                     ARRAY['\"no event\"', '\"nor this\"']::bytea[], NULL)";
    database.psql(published).unwrap();
    let other = SERVER.database().unwrap();
    other.psql(V1).unwrap();
    other.psql(&script("railbus", 1).unwrap()).unwrap();
    let url = database.url("postgres-queue");
    let opening = (0..6).map(|_| Bus::open(&url));
    let buses: Vec<_> =
        futures_util::future::join_all(opening).await.into_iter().map(Result::unwrap).collect();
    let recorder = Recorder::new();
    let on = buses[0].on("t").group("g").ordered_by_key().retry(Retry::attempts(1));
    on.run(recorder.clone()).await.unwrap();
    assert!(buses[1].withdraw("held back").await.unwrap());
    buses[2].publish(Event::new("t").id("new").key("k").payload(1)).await.unwrap();
    buses[0].idle().await.unwrap();
    let ids: Vec<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    assert_eq!(ids, ["new"]);
    let letters = buses[0].keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(letters.len(), 1, "what was stored before is still there: {letters:?}");
    for bus in buses {
        bus.close().await.unwrap();
    }
    let fresh = SERVER.database().unwrap();
    fresh.psql(&script("railbus", 0).unwrap()).unwrap();
    for database in [&database, &other] {
        assert_eq!(versions(database), all());
        assert_eq!(database.psql(SHAPE).unwrap(), fresh.psql(SHAPE).unwrap(), "as if made anew");
    }
}

#[tokio::test]
async fn what_is_printed_for_who_keeps_the_database_makes_all_that_a_bus_needs() {
    let database = SERVER.database().unwrap();
    database.psql(&script("other_place", 0).unwrap()).unwrap();
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'other_place'";
    let made = database.psql(tables).unwrap();
    let url = format!("{}?schema=other_place", database.url("postgres-queue"));
    let (bus, recorder) = (Bus::open(&url).await.unwrap(), Recorder::new());
    bus.on("t").group("g").run(recorder.clone()).await.unwrap();
    bus.publish(Event::new("t").payload(1)).await.unwrap();
    bus.idle().await.unwrap();
    assert_eq!(recorder.types(), ["t"]);
    bus.close().await.unwrap();
    assert_eq!(database.psql(tables).unwrap(), made);
    assert_eq!(script("railbus", newest()).unwrap().matches("CREATE").count(), 0);
    assert_eq!(script("railbus", newest() + 1).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn newer_tables_are_refused_and_stay_as_they_are() {
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    Bus::open(&url).await.unwrap().close().await.unwrap();
    database.psql("INSERT INTO railbus.migrations VALUES (99)").unwrap();
    let error = Bus::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Version, "{error}");
    assert_eq!(versions(&database), all() + "\n99");
}

#[tokio::test]
async fn a_schema_of_another_program_is_refused() {
    let database = SERVER.database().unwrap();
    database.psql("CREATE TABLE public.events (id int)").unwrap();
    let url = format!("{}?schema=public", database.url("postgres-queue"));
    let error = Bus::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.advice().unwrap().contains("schema"), "{error}");
    let left = "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(database.psql(left).unwrap().trim(), "events");
}

#[tokio::test]
async fn names_that_no_schema_of_a_queue_has_are_refused_before_anything_is_connected_to() {
    for name in ["a b", "1st", "pg_mine", "a\"; DROP TABLE x; --", "ä", &"x".repeat(49)] {
        let mut options = Options::parse("postgres-queue://nobody@127.0.0.1:1/none").unwrap();
        options.set("schema", name);
        let error = railbus::backends::open(options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_role_that_may_only_work_can_do_all_but_migrations() {
    let database = SERVER.database().unwrap();
    SERVER.role("worker", "w").unwrap();
    let url = database.url_as("postgres-queue", "worker", "w");
    let error = Bus::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.advice().unwrap().contains("railbus migrate"), "{error}");

    let owner = Options::parse(&database.url("postgres-queue")).unwrap();
    assert_eq!(migrate(&owner, &[(Grant::All, "worker")]).await.unwrap(), (0, newest()));
    let bus = Bus::open(&url).await.unwrap();
    let recorder = Recorder::new();
    let fails = |e: &Event| if e.event_type() == "bad" { Err("no") } else { Ok(()) };
    bus.on("good").run(recorder.clone()).await.unwrap();
    bus.on("*").group("g").named("n").retry(Retry::attempts(1)).run(fails).await.unwrap();
    let run = bus.accounts().unwrap().begin(&[]).await.unwrap();
    for name in ["good", "bad"] {
        bus.publish(Event::new(name).payload(1)).await.unwrap();
    }
    bus.idle().await.unwrap();
    bus.accounts().unwrap().end(run).await.unwrap();
    assert_eq!(recorder.types(), ["good"]);
    let keeper = bus.keeper().unwrap();
    let letters = keeper.letters(&LetterFilter::default()).await.unwrap();
    assert_eq!(keeper.purge(&[letters[0].id.clone()]).await.unwrap(), 1);
    keeper.replay("g", railbus::backend::Start::Oldest).await.unwrap();
    bus.idle().await.unwrap();
    bus.close().await.unwrap();

    let as_worker = database.url_as("postgresql", "worker", "w");
    for forbidden in ["CREATE TABLE railbus.mine (n int)", "DELETE FROM railbus.migrations"] {
        assert!(SERVER.psql_at(&as_worker, forbidden).is_err(), "{forbidden}");
    }
}

#[tokio::test]
async fn a_role_that_may_only_publish_can_publish_and_read_nothing() {
    let database = SERVER.database().unwrap();
    SERVER.role("web", "w").unwrap();
    let (owner, recorder) =
        (Bus::open(&database.url("postgres-queue")).await.unwrap(), Recorder::new());
    owner.on("t").group("g").limit(1).run(recorder.clone()).await.unwrap();
    database.psql(&grants("railbus", Grant::Publish, "web")).unwrap();
    let bus = Bus::open(&database.url_as("postgres-queue", "web", "w")).await.unwrap();
    bus.publish(Event::new("t").id("by the bus").payload(1)).await.unwrap();
    let url = database.url_as("postgres", "web", "w");
    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let transaction = client.transaction().await.unwrap();
    let event = Event::new("t").id("by the outbox").payload(1);
    Outbox::new("railbus").unwrap().publish(&transaction, event).await.unwrap();
    transaction.commit().await.unwrap();
    owner.idle().await.unwrap();
    let ids: Vec<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    assert_eq!(ids, ["by the bus", "by the outbox"]);
    let error = bus.on("t").group("g").run(|_: &Event| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let as_web = database.url_as("postgresql", "web", "w");
    assert!(SERVER.psql_at(&as_web, "SELECT body FROM railbus.events").is_err());
    bus.close().await.unwrap();
    owner.close().await.unwrap();
}
