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

fn versions(database: &Database<'_>) -> String {
    database.psql("SELECT version FROM railbus.migrations").unwrap().trim().to_owned()
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
    assert_eq!(versions(&database), "1\n2");
    let options = Options::parse(&url).unwrap();
    assert_eq!(migrate(&options, &[]).await.unwrap(), (2, 2));
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
    assert_eq!(script("railbus", 2).unwrap().matches("CREATE").count(), 0);
    assert_eq!(script("railbus", 3).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn newer_tables_are_refused_and_stay_as_they_are() {
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    Bus::open(&url).await.unwrap().close().await.unwrap();
    database.psql("INSERT INTO railbus.migrations VALUES (99)").unwrap();
    let error = Bus::open(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Version, "{error}");
    assert_eq!(versions(&database), "1\n2\n99");
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
    assert_eq!(migrate(&owner, &[(Grant::All, "worker")]).await.unwrap(), (0, 2));
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
