//! What retention removes and what a run still counts of it, and how the batches of inputs are stored.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, Event, Retry,
    backend::{Advance, LetterFilter, Outgoing, Position, RunMark, Start, Tally},
    predicate::event_type,
};
use railbus_testbed::{Database, Postgres};
use std::{sync::LazyLock, time::Duration};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

fn types(database: &Database<'_>) -> String {
    let sorted = "SELECT coalesce(string_agg(type, ',' ORDER BY type), '') FROM railbus.events";
    database.psql(sorted).unwrap().trim().to_owned()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            // sleep: retention is a matter of time.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

async fn publish(bus: &Bus, name: &str, run: RunMark) {
    let outgoing = Outgoing { run: Some(run), ..Event::new(name).payload(1).into() };
    bus.publish_all(&[outgoing]).await.remove(0).unwrap();
}

fn fails(event: &Event) -> Result<(), &'static str> {
    if event.event_type() == "fails" { Err("no") } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_goes_and_a_run_still_counts_it() {
    let database = SERVER.database().unwrap();
    let url = format!("{}?retention=200ms", database.url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    let accounts = bus.accounts().unwrap();
    let run = accounts.begin(&[("g".to_owned(), event_type("[gf]*").interest())]).await.unwrap();
    let on = bus.on("[gf]*").group("g").named("n").retry(Retry::attempts(1));
    on.run(fails).await.unwrap();
    for name in ["good", "good", "fails", "nobody-wants-it"] {
        publish(&bus, name, run).await;
    }
    until("only the dead letter is left", || types(&database) == "fails").await;
    let expected = Tally {
        published: 4,
        delivered: 3,
        succeeded: 2,
        dead_lettered: 1,
        unmatched: 1,
        ..Tally::default()
    };
    assert_eq!(accounts.tally(run).await.unwrap(), expected);
    accounts.end(run).await.unwrap();
    bus.close().await.unwrap();
    assert_eq!(database.psql("SELECT count(*) FROM railbus.settled").unwrap().trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_abandoned_group_wants_stays_until_the_group_is_pruned() {
    let database = SERVER.database().unwrap();
    let url = format!("{}?retention=100ms", database.url("postgres-queue"));
    let bus = Bus::open(&url).await.unwrap();
    bus.on("wanted").group("abandoned").run(|_: &Event| ()).await.unwrap().cancel();
    for name in ["wanted", "unwanted"] {
        bus.publish(Event::new(name).payload(1)).await.unwrap();
    }
    until("what nobody wants is gone", || types(&database) == "wanted").await;
    let keeper = bus.keeper().unwrap();
    let group = keeper.groups().await.unwrap().remove(0);
    assert_eq!((group.name.as_str(), group.lag), ("abandoned", 1));
    assert_eq!(group.interest.to_string(), "type wanted");
    keeper.prune("abandoned").await.unwrap();
    until("nothing is left", || types(&database).is_empty()).await;
    let error = keeper.prune("abandoned").await.unwrap_err();
    assert!(error.advice().unwrap().contains("no groups"), "{error}");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_of_an_input_goes_in_statements_that_the_server_takes() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let body = "x".repeat(15_000_000);
    let large = |n: u64| {
        let event: Outgoing = Event::new("t").id(n.to_string()).payload(body.clone()).into();
        let to = Position { offset: n * 10 + 10, fingerprint: n };
        let step = Advance { input: "orders.ndjson".into(), from: n * 10, to };
        Outgoing { position: Some(step), ..event }
    };
    let results = bus.publish_all(&(0..5).map(large).collect::<Vec<_>>()).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let stored = "SELECT string_agg(id, ',' ORDER BY seq) FROM railbus.events";
    assert_eq!(database.psql(stored).unwrap().trim(), "0,1,2,3,4");
    let statements = database.psql("SELECT count(*) FROM railbus.batches").unwrap();
    assert_eq!(statements.trim(), "2");
    let accounts = bus.accounts().unwrap();
    assert_eq!(accounts.position("orders.ndjson").await.unwrap().unwrap().offset, 50);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_hand_has_edited_is_a_dead_letter_and_holds_up_nothing() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    for id in ["1", "2", "3"] {
        bus.publish(Event::new("t").id(id).payload(1)).await.unwrap();
    }
    database.psql("UPDATE railbus.events SET body = '{]' WHERE id = '2'").unwrap();
    database.psql("DELETE FROM railbus.events WHERE id = '3'").unwrap();
    bus.publish(Event::new("t").id("4").payload(1)).await.unwrap();
    let recorder = railbus::testing::Recorder::new();
    bus.on("t").group("g").limit(1).run(recorder.clone()).await.unwrap();
    bus.idle().await.unwrap();
    let ids: Vec<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    assert_eq!(ids, ["1", "4"]);
    let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
    assert_eq!((letters.len(), &*letters[0].event_id), (1, "2"));
    assert!(letters[0].event.is_none());
    assert_eq!(bus.keeper().unwrap().replay("g", Start::Oldest).await.unwrap(), 3);
    bus.idle().await.unwrap();
    assert_eq!(recorder.len(), 4);
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_and_delays_are_the_servers_whatever_a_clients_clock_says() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let (seen, mut all) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |e: &Event| seen.send(e.id().to_owned()).unwrap();
    bus.on("t").group("g").run(handler).await.unwrap();
    let began = std::time::Instant::now();
    let delay = Duration::from_millis(400);
    bus.publish(Event::new("t").id("later").delay(delay).payload(1)).await.unwrap();
    bus.publish(Event::new("t").id("now").payload(1)).await.unwrap();
    assert_eq!(all.recv().await.unwrap(), "now");
    assert_eq!(all.recv().await.unwrap(), "later");
    assert!(began.elapsed() >= delay);
    // No time of a client's is stored: what is due was computed by the server.
    let due = "SELECT abs(e.due - b.at - 400000) FROM railbus.events e \
               JOIN railbus.batches b ON b.first = e.seq WHERE e.id = 'later'";
    assert_eq!(database.psql(due).unwrap().trim(), "0");
    bus.close().await.unwrap();
}
