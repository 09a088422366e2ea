//! A server whose disk is full: said as such, nothing lost, and all goes on once there is room.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, ErrorKind, Event, testing::Recorder};
use railbus_testbed::{Database, Postgres};
use std::time::Duration;
use tokio::time::timeout;

/// Takes all the room that there is.
const FILL: &str = "CREATE TABLE IF NOT EXISTS filler (much text); \
                    DO $$ BEGIN FOR n IN 1 .. 100000 LOOP \
                    BEGIN INSERT INTO filler SELECT string_agg(md5(random()::text), '') \
                    FROM generate_series(1, 200); \
                    EXCEPTION WHEN disk_full THEN RETURN; END; END LOOP; END $$";

/// Fails as a full disk does, where none can be had.
const PRETEND: &str = "CREATE FUNCTION full_up() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; \
    CREATE TRIGGER full_up BEFORE INSERT ON railbus.events EXECUTE FUNCTION full_up(); \
    CREATE TRIGGER full_up BEFORE INSERT ON railbus.leases EXECUTE FUNCTION full_up(); \
    CREATE TRIGGER full_up BEFORE INSERT ON railbus.deliveries EXECUTE FUNCTION full_up()";

/// A database whose disk is small, or one that only pretends to be full.
enum Disk<'a> {
    Small(Database<'a>),
    Pretended(Database<'a>),
}

impl Disk<'_> {
    fn database(&self) -> &Database<'_> {
        match self {
            Self::Small(database) | Self::Pretended(database) => database,
        }
    }

    fn fill(&self) {
        match self {
            Self::Small(database) => database.psql(FILL).unwrap(),
            Self::Pretended(database) => database.psql(PRETEND).unwrap(),
        };
    }

    fn make_room(&self) {
        let sql = match self {
            Self::Small(_) => "DROP TABLE filler",
            Self::Pretended(_) => "DROP FUNCTION full_up CASCADE",
        };
        self.database().psql(sql).unwrap();
    }
}

fn server() -> (Postgres, bool) {
    match Postgres::options().small_disk(32 << 20).start() {
        Ok(server) => (server, true),
        Err(why) if why.to_string().contains("only root") => (Postgres::start().unwrap(), false),
        Err(why) => panic!("{why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_what_was_confirmed_is_handled_once_there_is_room() {
    let (server, small) = server();
    let disk = match small {
        true => Disk::Small(server.small_database().unwrap()),
        false => Disk::Pretended(server.database().unwrap()),
    };
    let bus = Bus::open(&disk.database().url("postgres-queue")).await.unwrap();
    let recorder = Recorder::new();
    let on = bus.on("t").group("g").lease(Duration::from_secs(1)).limit(2);
    on.run(recorder.clone()).await.unwrap();
    let (mut confirmed, mut number) = (Vec::new(), 0);
    let mut next = || {
        number += 1;
        let id = format!("e-{number}");
        (Event::new("t").id(&*id).payload("x".repeat(1_500)), id)
    };
    for _ in 0..50 {
        let (event, id) = next();
        bus.publish(event).await.unwrap();
        confirmed.push(id);
    }
    disk.fill();
    // What there is of room in pages is used up first, and the member that settles what it has
    // makes a little more: it is full again once that is used up too.
    for _ in 0..4 {
        let mut full = None;
        for _ in 0..20_000 {
            let (event, id) = next();
            match bus.publish(event).await {
                Ok(_) => confirmed.push(id),
                Err(error) => {
                    full = Some(error);
                    break;
                }
            }
        }
        let full = full.expect("the disk does not get full");
        assert_eq!(full.kind(), ErrorKind::Full, "{full}");
        assert!(full.is_retryable() && full.advice().unwrap().contains("room"), "{full:?}");
    }
    disk.make_room();
    for _ in 0..50 {
        let (event, id) = next();
        bus.publish(event).await.unwrap();
        confirmed.push(id);
    }
    timeout(Duration::from_secs(60), async { while bus.idle().await.is_err() {} }).await.unwrap();
    let mut got: Vec<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    got.sort();
    got.dedup();
    confirmed.sort();
    assert_eq!(got, confirmed, "exactly what was confirmed");
    let keeper = bus.keeper().unwrap();
    assert_eq!(keeper.groups().await.unwrap()[0].lag, 0);
    assert!(keeper.letters(&railbus::backend::LetterFilter::default()).await.unwrap().is_empty());
    bus.close().await.unwrap();
}
