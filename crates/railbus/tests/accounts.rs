//! What became of every event of a run, and how far its input was read, on each store that keeps
//! accounts.
#![cfg(any(feature = "redis", feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "by_key/stores.rs"]
#[allow(dead_code)]
mod stores;

use railbus::{
    Bus, ErrorKind, Event, Retry,
    backend::{Advance, LetterFilter, Outgoing, Position, RunMark, Start, Tally},
    predicate::{Interest, event_type},
    testing::Recorder,
};
use std::time::Duration;
use stores::Store;

fn all() -> Vec<Store> {
    Store::that(|c| c.positions)
}

async fn publish(bus: &Bus, name: &str, run: RunMark) {
    let outgoing = Outgoing { run: Some(run), ..Event::new(name).payload(1).into() };
    bus.publish_all(&[outgoing]).await.remove(0).unwrap();
}

fn fails(event: &Event) -> Result<(), &'static str> {
    if event.event_type() == "fails" { Err("no") } else { Ok(()) }
}

/// Returns the ids of all events that are stored, as a new group sees them.
async fn stored(bus: &Bus) -> Vec<String> {
    let recorder = Recorder::new();
    let all = bus.on("t").group("all").from(Start::Oldest).limit(1);
    all.run(recorder.clone()).await.unwrap();
    bus.idle().await.unwrap();
    recorder.events().iter().map(|event| event.id().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_counts_what_it_found_unsettled_and_not_what_other_runs_publish() {
    for store in all() {
        println!("{store}");
        let bus = store.bus().await;
        let groups = [("g".to_owned(), Interest::all())];
        let accounts = bus.accounts().unwrap();
        let earlier = accounts.begin(&groups).await.unwrap();
        let waiting = bus.on("*").group("g").named("n").run(|_: &Event| ()).await.unwrap();
        publish(&bus, "settled", earlier).await;
        bus.idle().await.unwrap();
        waiting.cancel();
        publish(&bus, "carried", earlier).await;
        let run = accounts.begin(&groups).await.unwrap();
        publish(&bus, "mine", run).await;
        publish(&bus, "another's", earlier).await;
        bus.publish(Event::new("nobody's").payload(1)).await.unwrap();
        assert!(!accounts.is_idle(&groups).await.unwrap());
        assert!(accounts.is_idle(&[("g".into(), event_type("x").interest())]).await.unwrap());
        let open = Tally { published: 2, carried: 1, ..Tally::default() };
        let given_back = async {
            // The one that was cancelled may have fetched something still, and gives it back.
            while accounts.tally(run).await.unwrap() != open {
                tokio::task::yield_now().await;
            }
        };
        let given_back = tokio::time::timeout(Duration::from_secs(60), given_back);
        given_back.await.expect("delivered to nobody");
        bus.on("*").group("g").named("n").run(|_: &Event| ()).await.unwrap();
        bus.idle().await.unwrap();
        assert!(accounts.is_idle(&groups).await.unwrap());
        let all = Tally { delivered: 3, succeeded: 3, ..open };
        assert_eq!(accounts.tally(run).await.unwrap(), all);
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_handed_back_counts_by_how_it_ends_then() {
    for store in all() {
        println!("{store}");
        let bus = store.bus().await;
        let accounts = bus.accounts().unwrap();
        let run = accounts.begin(&[("g".into(), Interest::all())]).await.unwrap();
        let on = || bus.on("fails").group("g").named("n").retry(Retry::attempts(2));
        let failing = on().run(fails).await.unwrap();
        publish(&bus, "fails", run).await;
        bus.idle().await.unwrap();
        failing.cancel();
        let dead =
            Tally { published: 1, delivered: 1, dead_lettered: 1, retried: 1, ..Tally::default() };
        assert_eq!(accounts.tally(run).await.unwrap(), dead);
        on().run(|_: &Event| ()).await.unwrap();
        let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
        assert_eq!(bus.keeper().unwrap().redrive(&[letters[0].id.clone()]).await.unwrap(), 1);
        bus.idle().await.unwrap();
        let healed = Tally { dead_lettered: 0, succeeded: 1, ..dead };
        assert_eq!(accounts.tally(run).await.unwrap(), healed);
        bus.close().await.unwrap();
    }
}

/// A line of an input, from one offset to the next.
fn line(id: &str, from: u64, to: u64) -> Outgoing {
    let to = Position { offset: to, fingerprint: u64::MAX - to };
    let step = Advance { input: "orders.ndjson".into(), from, to };
    Outgoing { position: Some(step), ..Event::new("t").id(id).payload(1).into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_moves_with_its_events_or_neither_does() {
    for store in all() {
        println!("{store}");
        let bus = store.bus().await;
        let accounts = bus.accounts().unwrap();
        assert_eq!(accounts.position("orders.ndjson").await.unwrap(), None);
        let broken = Outgoing { rejected: Some("not JSON".into()), ..line("2", 10, 20) };
        let first = bus.publish_all(&[line("1", 0, 10), broken, line("3", 20, 30)]).await;
        assert!(first.iter().all(Result::is_ok), "{first:?}");
        let late = bus.publish_all(&[line("4", 20, 40), line("5", 40, 50)]).await;
        assert!(
            late.iter().all(|r| r.as_ref().unwrap_err().kind() == ErrorKind::Stale),
            "{late:?}"
        );
        let position = accounts.position("orders.ndjson").await.unwrap().unwrap();
        assert_eq!(position, Position { offset: 30, fingerprint: u64::MAX - 30 });
        assert_eq!(stored(&bus).await, ["1", "3"]);
        let letters = bus.keeper().unwrap().letters(&LetterFilter::default()).await.unwrap();
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!(
            (&*letter.event_id, &*letter.subscription, &*letter.reason, letter.group.as_deref()),
            ("2", "orders.ndjson", "not JSON", None)
        );
        bus.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_read_one_input_at_once_each_line_is_stored_once() {
    for store in all() {
        println!("{store}");
        let url = store.shared_url().unwrap();
        let mut reading = Vec::new();
        for _ in 0..4 {
            let url = url.to_owned();
            reading.push(tokio::spawn(async move {
                let bus = Bus::open(&url).await.unwrap();
                let accounts = bus.accounts().unwrap();
                loop {
                    let position = accounts.position("orders.ndjson").await.unwrap();
                    let at = position.map_or(0, |p| p.offset);
                    if at == 40 {
                        return bus.close().await.unwrap();
                    }
                    match bus.publish_all(&[line(&at.to_string(), at, at + 1)]).await.remove(0) {
                        Ok(_) => {}
                        Err(e) => assert_eq!(e.kind(), ErrorKind::Stale, "{e}"),
                    }
                }
            }));
        }
        for reader in reading {
            reader.await.unwrap();
        }
        let bus = store.bus().await;
        let mut ids: Vec<u64> = stored(&bus).await.iter().map(|id| id.parse().unwrap()).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..40));
        bus.close().await.unwrap();
    }
}
