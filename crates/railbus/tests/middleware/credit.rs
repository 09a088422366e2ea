//! Credit: somebody outside says how many events are fetched, and from when on.

use crate::faulty::Faulty;
use railbus::{Bus, ErrorKind, Event, backend::GroupInfo, credit::Credit, testing::Recorder};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Semaphore, task::yield_now};

/// Hands out what it has, and keeps what is not used.
#[derive(Debug)]
struct Purse {
    coins: Semaphore,
    told: Mutex<Vec<(usize, usize)>>,
}

impl Purse {
    fn with(coins: usize) -> Arc<Self> {
        Arc::new(Self { coins: Semaphore::new(coins), told: Mutex::default() })
    }

    fn told(&self) -> Vec<(usize, usize)> {
        self.told.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Credit for Purse {
    async fn take(&self, most: usize) -> usize {
        self.coins.acquire().await.unwrap().forget();
        1 + self.coins.forget_permits(most - 1)
    }

    fn came(&self, taken: usize, came: usize) {
        self.told.lock().unwrap().push((taken, came));
        self.coins.add_permits(taken - came);
    }
}

async fn let_others_run() {
    for _ in 0..100 {
        yield_now().await;
    }
}

async fn publish(bus: &Bus, count: usize) {
    for _ in 0..count {
        bus.publish(Event::new("tick")).await.unwrap();
    }
}

async fn group(bus: &Bus) -> GroupInfo {
    bus.keeper().unwrap().groups().await.unwrap().remove(0)
}

#[railbus::test]
async fn nothing_is_claimed_without_credit_and_as_much_as_there_is_with_it() {
    let bus = Bus::open("memory:").await.unwrap();
    let (purse, seen) = (Purse::with(0), Recorder::new());
    bus.on("tick").group("g").credit(purse.clone()).run(seen.clone()).await.unwrap();
    publish(&bus, 5).await;
    let_others_run().await;
    let waiting = group(&bus).await;
    assert_eq!((waiting.lag, waiting.leased, seen.len()), (5, 0, 0));
    purse.coins.add_permits(3);
    seen.wait_for(3).await;
    let_others_run().await;
    let waiting = group(&bus).await;
    assert_eq!((waiting.lag, waiting.leased, seen.len()), (2, 0, 3));
    purse.coins.add_permits(10);
    bus.idle().await.unwrap();
    assert_eq!(seen.len(), 5);
    bus.close().await.unwrap();
    let used: usize = purse.told().iter().map(|(_, came)| came).sum();
    assert_eq!((used, purse.coins.available_permits()), (5, 8), "{:?}", purse.told());
}

#[railbus::test]
async fn what_was_taken_is_told_back_when_a_fetch_fails() {
    let (backend, faults) = Faulty::new();
    let bus = Bus::over(backend);
    let (purse, seen) = (Purse::with(2), Recorder::new());
    faults.fetches.store(2, std::sync::atomic::Ordering::SeqCst);
    bus.on("tick").group("g").credit(purse.clone()).run(seen.clone()).await.unwrap();
    publish(&bus, 2).await;
    seen.wait_for(2).await;
    assert_eq!(purse.told()[..2], [(2, 0), (2, 0)]);
    assert!(faults.asked.lock().unwrap().iter().all(|asked| *asked <= 2));
    bus.close().await.unwrap();
}

#[railbus::test]
async fn a_group_fetches_what_all_its_subscriptions_have_credit_for() {
    let (backend, faults) = Faulty::new();
    let bus = Bus::over(backend);
    let (rich, poor, seen) = (Purse::with(100), Purse::with(3), Recorder::new());
    let some = bus.on("tick").group("g").credit(rich.clone()).run(|_: &Event| {});
    let few = bus.on("tick").group("g").credit(poor.clone()).credit(poor.clone());
    bus.open_all([some, few.run(seen.clone())]).await.unwrap();
    publish(&bus, 10).await;
    seen.wait_for(3).await;
    let_others_run().await;
    assert_eq!((seen.len(), poor.coins.available_permits()), (3, 0), "each is asked once a fetch");
    assert!(faults.asked.lock().unwrap().iter().all(|asked| *asked <= 3));
    // What is waited for holds up no closing, and what was taken meanwhile comes back.
    bus.close_within(Duration::from_secs(60)).await.unwrap();
    assert_eq!(rich.coins.available_permits(), 97);
}

#[railbus::test]
async fn a_broadcast_has_no_credit_since_nothing_is_fetched() {
    let on = Bus::new().on("tick").credit(Purse::with(1));
    let refused = on.run(|_: &Event| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert_eq!(refused.advice(), Some("give the subscription a group"));
}
