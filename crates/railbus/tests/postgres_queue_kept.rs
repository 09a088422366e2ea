//! What a queue keeps for itself does not grow with what went through it: gaps of transactions that were
//! rolled back, accounts of runs, marks of groups. And how long events are kept is one for all.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{Bus, Event, backend::Tally, backends::postgres_queue::Outbox, predicate::Interest};
use railbus_testbed::{Database, Postgres};
use std::{sync::LazyLock, time::Duration};
use tokio_postgres::{Client, NoTls};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

async fn connect(database: &Database<'_>) -> Client {
    let url = database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

async fn until(database: &Database<'_>, is_so: &str) {
    let asking = async {
        while database.psql(&format!("SELECT {is_so}")).unwrap().trim() != "t" {
            // sleep: retention is a matter of time.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking).await.expect(is_so);
}

fn count(database: &Database<'_>, what: &str) -> u64 {
    database.psql(&format!("SELECT count(*) FROM {what}")).unwrap().trim().parse().unwrap()
}

/// Publishes so many of a type so often, none of which can be read as an event.
fn publish(database: &Database<'_>, type_name: &str, times: u32, events: u32) {
    let many = format!(
        "DO $$ DECLARE x text[] := array_fill('{type_name}'::text, ARRAY[{events}]); BEGIN \
         FOR n IN 1 .. {times} LOOP PERFORM railbus.publish(x, x, x, NULL, NULL, \
         array_fill(convert_to(repeat('x', 150), 'UTF8'), ARRAY[{events}]), NULL); END LOOP; END $$"
    );
    database.psql(&many).unwrap();
}

/// What a step of retention came to.
#[derive(Debug, Default)]
struct Step {
    following: Option<i64>,
    as_of: Option<i64>,
    looked_at: i64,
    gone: i64,
}

/// Goes on behind a step, the first of a round if it is none.
async fn step(client: &Client, retention: i64, after: &Step) -> Step {
    let sweep = "SELECT following, as_of, looked_at, gone FROM railbus.sweep($1, $2, $3)";
    let place = after.following.unwrap_or(0);
    let row = client.query_one(sweep, &[&retention, &place, &after.as_of]).await.unwrap();
    Step { following: row.get(0), as_of: row.get(1), looked_at: row.get(2), gone: row.get(3) }
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_forgotten_while_an_old_transaction_is_open_that_publishes_nothing() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let (mut old, mut client) = (connect(&database).await, connect(&database).await);
    let held = old.transaction().await.unwrap();
    held.execute("SELECT pg_current_xact_id()", &[]).await.unwrap();
    let outbox = Outbox::new("railbus").unwrap();
    let mut late = connect(&database).await;
    let late = late.transaction().await.unwrap();
    let ticking = connect(&database).await;
    for n in 0..400 {
        let gone = client.transaction().await.unwrap();
        outbox.publish(&gone, Event::new("never").payload(n)).await.unwrap();
        gone.rollback().await.unwrap();
        if n == 200 {
            // This one is not over, and is no gap for good.
            outbox.publish(&late, Event::new("late").payload(n)).await.unwrap();
        }
        bus.publish(Event::new("t").payload(n)).await.unwrap();
        ticking.query("SELECT railbus.tick()", &[]).await.unwrap();
        if n == 100 || n == 399 {
            let gaps = count(&database, "railbus.gaps, unnest(gaps + old)");
            assert!(gaps <= 100 || n == 399, "{gaps} gaps after {n}");
        }
    }
    late.commit().await.unwrap();
    let placed = "CASE WHEN railbus.tick() > 0 THEN (SELECT sum(n) FROM railbus.log) = 401 END";
    until(&database, placed).await;
    for n in 0..10 {
        bus.publish(Event::new("t").payload(n)).await.unwrap();
        ticking.query("SELECT railbus.tick()", &[]).await.unwrap();
    }
    let gaps = count(&database, "railbus.gaps, unnest(gaps + old)");
    assert!(gaps <= 110, "{gaps} gaps are left of 400");
    held.rollback().await.unwrap();
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_groups_have_settled_is_noted_the_seldomer_the_longer_it_takes_to_see() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    bus.on("t").group("g").run(|_: &Event| ()).await.unwrap();
    bus.close().await.unwrap();
    let client = connect(&database).await;
    let mark = "SELECT railbus.mark(railbus.now_micros() + $1, 64)";
    client.query(mark, &[&0_i64]).await.unwrap();
    assert_eq!(count(&database, "railbus.marks WHERE took > 0"), 1);
    client.execute("UPDATE railbus.marks SET took = 60000000", &[]).await.unwrap();
    client.query(mark, &[&1_000_000_i64]).await.unwrap();
    assert_eq!(count(&database, "railbus.marks WHERE took = 60000000"), 1, "it rests for an hour");
    client.query(mark, &[&3_900_000_000_i64]).await.unwrap();
    assert_eq!(count(&database, "railbus.marks WHERE took < 60000000"), 1, "and looks then");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_counts_goes_with_the_events_and_a_run_that_was_killed_counts_no_more() {
    let database = SERVER.database().unwrap();
    let url = format!("{}?retention=200ms", database.url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    bus.on("t").group("g").named("n").run(|_: &Event| ()).await.unwrap();
    let accounts = bus.accounts().unwrap();
    let run = accounts.begin(&[("g".to_owned(), Interest::all())]).await.unwrap();
    for n in 0..200 {
        bus.publish(Event::new("t").payload(n)).await.unwrap();
    }
    bus.idle().await.unwrap();
    until(&database, "count(*) = 0 FROM railbus.events").await;
    until(&database, "count(*) = 0 FROM railbus.settled").await;
    let all = Tally { published: 200, delivered: 200, succeeded: 200, ..Tally::default() };
    assert_eq!(accounts.tally(run).await.unwrap(), all);
    // As one whose process is gone; this process goes on to say that its own is there.
    let killed = "INSERT INTO railbus.runs (began_at, seen, newest) \
                  SELECT began_at, seen - 3601000000, newest FROM railbus.runs";
    database.psql(killed).unwrap();
    until(&database, "array_agg(ended ORDER BY id) = '{f,t}' FROM railbus.runs").await;
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_marked_now_and_then_however_many_sweep() {
    let database = SERVER.database().unwrap();
    // It sweeps often for the sake of its journal.
    let url = format!("{}?retention=1h&journal_retention=200ms", database.url("postgres-queue"));
    let buses = [Bus::open(&url).await.unwrap(), Bus::open(&url).await.unwrap()];
    buses[0].on("t").group("g").run(|_: &Event| ()).await.unwrap();
    until(&database, "count(*) = 1 FROM railbus.marks").await;
    let rounds = "(SELECT xact_commit FROM pg_stat_database WHERE datname = current_database())";
    let before = database.psql(&format!("SELECT {rounds}")).unwrap().trim().to_owned();
    until(&database, &format!("{rounds} > {before} + 100")).await;
    assert_eq!(count(&database, "railbus.marks"), 1);
    for bus in buses {
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_is_found_without_going_through_all_that_stays() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    publish(&database, "x", 800, 500);
    let client = connect(&database).await;
    client.query("SELECT railbus.tick()", &[]).await.unwrap();
    // Of one transaction, since what is counted in another may be told later.
    client.batch_execute("BEGIN").await.unwrap();
    let (mut at, mut gone, mut looked) = (Step::default(), 0, 0);
    loop {
        at = step(&client, 0, &at).await;
        let before = looked;
        let count = "SELECT pg_stat_get_xact_tuples_returned('railbus.events_pkey'::regclass)";
        looked = client.query_one(count, &[]).await.unwrap().get(0);
        let (rows, went) = (looked - before, at.gone);
        assert!(rows <= 4 * went, "{rows} rows were looked at for {went} that went");
        gone += went;
        if at.following.is_none() {
            break;
        }
    }
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(gone, 400_000);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_long_ago_counts_as_little_as_what_was_never_there_when_one_event_stays() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    bus.on("bad").group("g").run(|_: &Event| ()).await.unwrap();
    // What is no event ends in a dead letter.
    publish(&database, "bad", 1, 1);
    // Of this batch one event stays as well.
    publish(&database, "x", 1, 1_000);
    bus.idle().await.unwrap();
    assert_eq!(count(&database, "railbus.letters"), 1);
    let stays = "UPDATE railbus.events SET due = 9000000000000000 \
                 WHERE seq = (SELECT max(seq) FROM railbus.events)";
    database.psql(stays).unwrap();
    let client = connect(&database).await;
    for _ in 0..5 {
        publish(&database, "x", 20, 1_000);
        client.query("SELECT railbus.tick()", &[]).await.unwrap();
        let (mut at, mut gone, mut looked_at) = (Step::default(), 0, 0);
        loop {
            at = step(&client, 0, &at).await;
            (gone, looked_at) = (gone + at.gone, looked_at + at.looked_at);
            if at.following.is_none() {
                break;
            }
        }
        assert!((20_000..=20_999).contains(&gone), "{gone} went");
        assert_eq!(looked_at, gone + 2, "all that were there, and no more");
    }
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_retention_goes_on_after_another_session_has_begun_one() {
    const RETENTION: i64 = 60_000_000;
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    bus.on("x").group("g").run(|_: &Event| ()).await.unwrap();
    // A step goes through 200 batches.
    for n in 0..600 {
        bus.publish(Event::new("x").payload(n)).await.unwrap();
    }
    bus.idle().await.unwrap();
    let (client, later) = (connect(&database).await, connect(&database).await);
    let pass = async |seconds: i64| {
        let micros = seconds * 1_000_000;
        for table in ["log", "marks"] {
            let passes = format!("UPDATE railbus.{table} SET at = at - {micros}");
            client.batch_execute(&passes).await.unwrap();
        }
        micros
    };
    let mark = format!("SELECT railbus.mark(railbus.now_micros(), {RETENTION})");
    // Marks of 61 and of 45 seconds ago.
    client.batch_execute(&mark).await.unwrap();
    pass(16).await;
    client.batch_execute(&mark).await.unwrap();
    pass(45).await;
    let mut round = step(&client, RETENTION, &Step::default()).await;
    assert_eq!(round.gone, 200);
    // The newer one counts by now, and the older one is forgotten.
    let passed = pass(20).await;
    round.as_of = round.as_of.map(|as_of| as_of - passed);
    assert_eq!(step(&later, RETENTION, &Step::default()).await.gone, 200);
    assert_eq!(count(&database, "railbus.marks"), 3);
    round = step(&client, RETENTION, &round).await;
    assert_eq!(round.gone, 200, "{round:?}");
    assert_eq!(count(&database, "railbus.events"), 0);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_events_are_kept_is_what_was_said_last_and_not_what_others_leave_unsaid() {
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    let said = "(SELECT value FROM railbus.settings WHERE name = 'retention')";
    for (query, expected) in [("", ""), ("?retention=1h", "3600000000"), ("", "3600000000")] {
        let bus = Bus::open(format!("{url}{query}")).await.unwrap();
        assert_eq!(database.psql(&format!("SELECT {said}")).unwrap().trim(), expected);
        bus.close().await.unwrap();
    }
    Bus::open(format!("{url}?retention=100ms")).await.unwrap().close().await.unwrap();
    // It says nothing, and does what was said; its journal makes it sweep often.
    let bus = Bus::open(format!("{url}?journal_retention=100ms")).await.unwrap();
    bus.publish(Event::new("t").payload(1)).await.unwrap();
    until(&database, "count(*) = 0 FROM railbus.events").await;
    bus.close().await.unwrap();
}
