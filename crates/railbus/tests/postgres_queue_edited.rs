//! Rows that somebody has edited by hand: what can be understood is, what can't is one event's affair.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{Letter, LetterFilter},
    testing::Recorder,
};
use railbus_testbed::Postgres;
use std::{sync::LazyLock, time::Duration};
use tokio::time::timeout;

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start().unwrap());

async fn letters(bus: &Bus) -> Vec<Letter> {
    bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap()
}

async fn idle(bus: &Bus) {
    timeout(Duration::from_secs(60), bus.idle()).await.expect("it never rests").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_made_no_events_are_dead_letters_and_the_others_are_handled() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    for n in 0..8 {
        bus.publish(Event::new("t").id(format!("e-{n}")).payload(n)).await.unwrap();
    }
    let edit = |id: u32, set: &str| {
        database.psql(&format!("UPDATE railbus.events SET {set} WHERE id = 'e-{id}'"))
    };
    edit(0, "body = ''").unwrap();
    edit(1, "body = '{\"specversion\":\"1.0\",\"id\":\"e-1\"'").unwrap();
    edit(2, "body = '\\xff00fe'").unwrap();
    edit(3, "body = 'null'").unwrap();
    edit(4, "body = '{\"specversion\":\"1.0\",\"id\":7,\"type\":[],\"source\":null}'").unwrap();
    // What is an event still: another id, payload or type than its columns say.
    edit(5, "body = replace(convert_from(body, 'UTF8'), '\"e-5\"', '\"other\"')::bytea").unwrap();
    edit(6, "id = 'renamed', due = -1").unwrap();
    // The tables themselves take no nulls and no other types.
    for refused in ["body = NULL", "type = NULL", "seq = 'x'", "due = 'soon'"] {
        assert!(edit(7, refused).is_err(), "{refused}");
    }
    let recorder = Recorder::new();
    let on =
        bus.on("t").group("g").named("n").retry(Retry::attempts(2).backoff_factor(Duration::ZERO));
    on.run(recorder.clone()).await.unwrap();
    idle(&bus).await;
    let ids: Vec<_> = recorder.events().iter().map(|e| e.id().to_owned()).collect();
    assert_eq!(ids, ["other", "e-6", "e-7"]);
    let letters = letters(&bus).await;
    assert_eq!(letters.len(), 5, "{letters:?}");
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_deliveries_may_be_anything() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let recorder = Recorder::new();
    let retry = Retry::attempts(3).backoff_factor(Duration::from_millis(600));
    let record = recorder.clone();
    let handler = move |e: &Event| {
        railbus::SyncHandler::handle(&record, e).map_err(|_| "refused")?;
        Err::<(), _>("never")
    };
    let on = bus.on("t").group("g").named("n").lease(Duration::from_secs(1));
    on.retry(retry).run(handler).await.unwrap();
    let garbage =
        ["no json", "[1, {}, null]", "{\"n\":", "null", "\"x\"", "{\"n\":7,\"m\":{\"dead\":1}}"];
    for (n, _) in garbage.iter().enumerate() {
        bus.publish(Event::new("t").id(format!("e-{n}")).payload(n)).await.unwrap();
    }
    timeout(Duration::from_secs(60), recorder.wait_for(garbage.len())).await.unwrap();
    let edited = async {
        let waiting = "SELECT count(*) FROM railbus.deliveries WHERE fence IS NULL AND open";
        while database.psql(waiting).unwrap() != garbage.len().to_string() {
            // sleep: nothing tells when what failed is held back.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (n, text) in garbage.iter().enumerate() {
            let sql = format!(
                "UPDATE railbus.deliveries d SET finished = '{text}', history = '{text}' \
                 FROM railbus.events e WHERE e.seq = d.seq AND e.id = 'e-{n}'"
            );
            database.psql(&sql).unwrap();
        }
    };
    timeout(Duration::from_secs(60), edited).await.unwrap();
    idle(&bus).await;
    let letters = letters(&bus).await;
    assert_eq!(letters.len(), garbage.len(), "{letters:?}");
    let ids = letters.iter().map(|letter| letter.id.clone()).collect::<Vec<_>>();
    assert_eq!(bus.keeper().unwrap().redrive(&ids).await.unwrap(), ids.len() as u64);
    idle(&bus).await;
    bus.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_on_garbage_runs_out() {
    let database = SERVER.database().unwrap();
    let url = database.url("postgres-queue");
    let stuck = Bus::open(&url).await.unwrap();
    let (begun, recorder) = (Recorder::new(), Recorder::new());
    let record = begun.clone();
    let retry = Retry::attempts(5).backoff_factor(Duration::from_secs(1));
    let handler = async move |e: Event| {
        railbus::SyncHandler::handle(&record, &e).map_err(|_| "refused")?;
        if record.len() > 1 {
            std::future::pending::<()>().await;
        }
        Err::<(), _>("once more")
    };
    let on = stuck.on("t").group("g").named("n").lease(Duration::from_secs(1)).retry(retry);
    on.run(handler).await.unwrap();
    stuck.publish(Event::new("t").id("e").payload(1)).await.unwrap();
    timeout(Duration::from_secs(60), begun.wait_for(2)).await.unwrap();
    let edit = "UPDATE railbus.deliveries SET history = 'no json', finished = '[}'; \
                UPDATE railbus.leases SET until = 1, fence = fence + 1; \
                UPDATE railbus.deliveries SET fence = fence + 1";
    database.psql(edit).unwrap();
    let other = Bus::open(&url).await.unwrap();
    let on = other.on("t").group("g").named("n").lease(Duration::from_secs(1));
    on.run(recorder.clone()).await.unwrap();
    timeout(Duration::from_secs(60), recorder.wait_for(1)).await.expect("it never comes again");
    let _ = stuck.close_within(Duration::from_millis(100)).await;
    idle(&other).await;
    other.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_whose_interest_is_nonsense_are_refused_and_harm_nobody() {
    let database = SERVER.database().unwrap();
    let bus = Bus::open(&database.url("postgres-queue")).await.unwrap();
    bus.on("t").group("broken").run(|_: &Event| ()).await.unwrap().cancel();
    database.psql("UPDATE railbus.groups SET interest = 'no json'").unwrap();
    let other = Bus::open(&database.url("postgres-queue")).await.unwrap();
    let error = other.on("t").group("broken").run(|_: &Event| ()).await.unwrap_err();
    assert!([ErrorKind::Decode, ErrorKind::Corrupt].contains(&error.kind()), "{error:?}");
    let recorder = Recorder::new();
    other.on("t").group("sound").run(recorder.clone()).await.unwrap();
    other.publish(Event::new("t").payload(1)).await.unwrap();
    timeout(Duration::from_secs(60), recorder.wait_for(1)).await.unwrap();
    bus.close().await.unwrap();
    other.close().await.unwrap();
}
