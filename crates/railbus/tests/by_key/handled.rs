//! What handlers see of it.

use super::{
    keyed,
    stores::{Store, quick},
};
use railbus::{
    Event, Retry,
    delivery::{Delivery, Outcome, Then},
    testing::Recorder,
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

/// What was done for each key, in the order it was, and which keys are being worked on.
#[derive(Default)]
struct Log {
    busy: HashSet<String>,
    done: BTreeMap<String, Vec<u32>>,
    tries: u32,
}

/// A number between 0 and `below` that follows from what is given.
fn random(seed: u32, number: u32, attempt: u32, below: u32) -> u32 {
    let mut x = seed ^ number.wrapping_mul(0x9e37_79b9) ^ attempt.wrapping_mul(0x85eb_ca6b);
    for _ in 0..3 {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
    }
    x % below
}

const KEYS: u32 = 20;
const EACH: u32 = 15;
const LEASE: Duration = Duration::from_secs(1);

#[railbus::test]
async fn eight_workers_in_two_members_keep_each_key_in_order_through_random_failures() {
    for store in Store::that(keyed) {
        let log: Arc<Mutex<Log>> = Arc::default();
        let buses = [store.bus().await, store.bus().await];
        for bus in &buses {
            let log = Arc::clone(&log);
            let handler = async move |d: Delivery| {
                let (key, n) = (d.event().key().unwrap().to_owned(), d.event().get("n").unwrap());
                let free = log.lock().unwrap().busy.insert(key.clone());
                assert!(free, "two events of {key} at once");
                for _ in 0..random(3, n, d.attempt(), 5) {
                    tokio::task::yield_now().await;
                }
                let mut log = log.lock().unwrap();
                log.busy.remove(&key);
                log.tries += 1;
                match random(7, n, d.attempt(), 16) {
                    0..4 => return Outcome::Failed("no luck".into()),
                    // Too long to be waited for in place: back into the store.
                    4 => return Outcome::Retry(LEASE / 3),
                    _ => {}
                }
                log.done.entry(key).or_default().push(n);
                Outcome::Done
            };
            let on = bus.on("step").group("g").ordered_by_key().limit(4);
            let on = on.lease(LEASE).retry(quick(50));
            on.run(handler).await.unwrap();
        }
        let events: Vec<_> = (0..KEYS * EACH)
            .map(|n| {
                let event = Event::new("step").key(format!("key {}", n % KEYS));
                event.payload(railbus::json!({ "n": n })).into()
            })
            .collect();
        for published in buses[0].publish_all(&events).await {
            published.unwrap();
        }
        buses[0].idle().await.unwrap();
        let log = log.lock().unwrap();
        assert!(log.tries > KEYS * EACH, "nothing failed {store}");
        assert_eq!(log.done.len(), KEYS as usize, "{store}");
        for (key, done) in &log.done {
            let expected: Vec<_> = (0..EACH).map(|n| done[0] + n * KEYS).collect();
            assert_eq!(*done, expected, "{key} {store}");
        }
    }
}

#[railbus::test]
async fn a_key_that_fails_holds_itself_up_and_no_other_however_hot_it_is() {
    for store in Store::that(keyed) {
        let (bus, received, heal) = (store.bus().await, Recorder::new(), Semaphore::new(0));
        let heal = Arc::new(heal);
        let (record, healed) = (received.clone(), Arc::clone(&heal));
        let handler = async move |d: Delivery| {
            if d.event().event_type() == "ill" && healed.available_permits() == 0 {
                return Err("not yet");
            }
            railbus::SyncHandler::handle(&record, d.event()).map_err(|_| "recorder")
        };
        let retry = Retry::attempts(u32::MAX).backoff_factor(Duration::from_millis(1));
        let retry = retry.max_backoff(Duration::from_millis(5));
        let on = bus.on(railbus::any()).group("g").ordered_by_key().limit(2).retry(retry);
        on.run(handler).await.unwrap();
        // More than one look at the store takes in.
        let mut events = vec![Event::new("ill").key("hot").payload(0).into()];
        events.extend((1..4500).map(|n| Event::new("after").key("hot").payload(n).into()));
        for n in 0..10 {
            events.push(Event::new("other").key(format!("cold {n}")).payload(n).into());
            events.push(Event::new("keyless").payload(n).into());
        }
        for published in bus.publish_all(&events).await {
            published.unwrap();
        }
        let seen = received.wait_for(20).await;
        assert!(seen.iter().all(|e| e.key() != Some("hot")), "{store}: {:?}", received.types());
        heal.add_permits(1);
        bus.idle().await.unwrap();
        let hot = received.events().into_iter().filter(|e| e.key() == Some("hot"));
        let hot: Vec<u32> = hot.map(|e| e.payload().unwrap()).collect();
        assert_eq!(hot, (0..4500).collect::<Vec<_>>(), "{store}");
    }
}

#[railbus::test]
async fn a_dead_letter_lets_its_key_go_on_and_comes_back_in_its_turn() {
    for store in Store::that(keyed) {
        let (bus, received) = (store.bus().await, Recorder::new());
        let (record, healed) = (received.clone(), Arc::new(Semaphore::new(0)));
        let heals = Arc::clone(&healed);
        let handler = async move |e: Event| match e.id() == "2" && heals.available_permits() == 0 {
            true => Err("no".into()),
            false => railbus::SyncHandler::handle(&record, &e),
        };
        let on = bus.on("a").group("g").ordered_by_key().limit(4).retry(quick(2));
        on.run(handler).await.unwrap();
        for id in ["1", "2", "3"] {
            bus.publish(Event::new("a").id(id).key("k")).await.unwrap();
        }
        bus.idle().await.unwrap();
        let ids = || received.events().iter().map(|e| e.id().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(), ["1", "3"], "{store}");
        healed.add_permits(1);
        let keeper = bus.keeper().unwrap();
        let letters = keeper.letters(&Default::default()).await.unwrap();
        assert_eq!(keeper.redrive(&[letters[0].id.clone()]).await.unwrap(), 1);
        bus.publish(Event::new("a").id("4").key("k")).await.unwrap();
        bus.idle().await.unwrap();
        let mut late = ids().split_off(2);
        late.sort();
        assert_eq!(late, ["2", "4"], "{store}");
    }
}

#[railbus::test]
async fn where_a_key_must_not_go_on_the_group_stops_and_begins_again_with_what_failed() {
    for store in Store::that(keyed) {
        let (bus, received) = (store.bus().await, Recorder::new());
        let record = received.clone();
        let fails = async move |e: Event| match e.id() {
            "1" => railbus::SyncHandler::handle(&record, &e),
            _ => Err("the disk is full".into()),
        };
        let on = bus.on("a").group("g").ordered_by_key().then(Then::Stop).retry(quick(1));
        on.run(fails).await.unwrap();
        for id in ["1", "2", "3"] {
            bus.publish(Event::new("a").id(id).key("k")).await.unwrap();
        }
        assert!(bus.failed().await.to_string().contains("the disk is full"), "{store}");
        bus.close().await.unwrap();
        let bus = store.bus().await;
        bus.on("a").group("g").ordered_by_key().run(received.clone()).await.unwrap();
        bus.idle().await.unwrap();
        let ids: Vec<_> = received.events().iter().map(|e| e.id().to_owned()).collect();
        assert_eq!(ids, ["1", "2", "3"], "{store}");
    }
}

#[railbus::test]
async fn an_event_that_is_held_back_holds_its_key_once_it_is_due() {
    for store in Store::that(keyed) {
        let (bus, received) = (store.bus().await, Recorder::new());
        bus.on("a").group("g").ordered_by_key().run(received.clone()).await.unwrap();
        let late = Event::new("a").id("late").key("k").delay(Duration::from_millis(200));
        bus.publish(late).await.unwrap();
        bus.publish(Event::new("a").id("soon").key("k")).await.unwrap();
        bus.idle().await.unwrap();
        let ids: Vec<_> = received.events().iter().map(|e| e.id().to_owned()).collect();
        assert_eq!(ids, ["soon", "late"], "{store}");
    }
}
