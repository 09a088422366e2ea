//! Tests of what goes wrong: doubles and a backend that fail on demand, virtual time, what was seen on
//! a bus, and a simulation that finds a handler which is not idempotent. `main` runs what
//! `cargo test` would.

use railbus::{
    Bus, Event, Retry,
    backends::memory::Memory,
    testing::{self, Double, Faulty, Found, Sim, Simulation},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A charge fails twice: it is tried again a minute and two minutes later, in no time.
/// With `#[railbus::test(time = "virtual")]` in place of being called by `main`.
async fn a_charge_is_tried_again() -> railbus::Result<()> {
    let bus = testing::bus().await?;
    let (seen, charge) = (testing::watch(&bus), Double::new("charge").fails(2));
    let retry = Retry::attempts(5).backoff(Duration::from_secs(60)).max_backoff(Duration::MAX);
    bus.on("order.placed").group("billing").retry(retry).run(charge).await?;
    let began = testing::time().now();
    bus.publish(Event::new("order.placed").id("o-1")).await?;
    seen.until(|seen| !seen.succeeded().is_empty()).await;
    println!("charged after {} s", testing::time().now().since(began).as_secs());
    seen.failed().to("billing").assert_count(2);
    seen.dead_letters().await?.assert_none();
    Ok(())
}

/// The server takes an event, and its answer is lost.
async fn an_answer_is_lost() -> railbus::Result<()> {
    let (faulty, billed) = (Faulty::new(Memory::default()), Double::new("billing"));
    let bus = faulty.bus();
    bus.on("order.placed").group("billing").run(billed.clone()).await?;
    faulty.publishes().lose_answer();
    let error = bus.publish(Event::new("order.placed").id("o-1")).await.err();
    println!("told: {}", error.map(|error| error.message().to_owned()).unwrap_or_default());
    bus.publish(Event::new("order.placed").id("o-1")).await?;
    bus.idle().await?;
    println!("billed {} times", billed.calls());
    Ok(())
}

type Accounts = Arc<Mutex<BTreeMap<String, u64>>>;

/// Adds what an order costs, however often it is delivered.
async fn adds(accounts: Accounts, bus: Bus) -> railbus::Result<()> {
    let add = async move |_: Event| {
        *accounts.lock().unwrap_or_else(|e| e.into_inner()).entry("sum".into()).or_default() += 1;
    };
    bus.on("order.placed").group("billing").run(add).await.map(drop)
}

/// Keeps what an order costs under its id.
async fn keeps(accounts: Accounts, bus: Bus) -> railbus::Result<()> {
    let keep = async move |order: Event| {
        accounts.lock().unwrap_or_else(|e| e.into_inner()).insert(order.id().into(), 1);
    };
    bus.on("order.placed").group("billing").run(keep).await.map(drop)
}

/// What must be true of both: three orders, and nobody pays twice.
async fn nobody_pays_twice(
    sim: Sim,
    billing: impl AsyncFn(Accounts, Bus) -> railbus::Result<()> + 'static,
) -> railbus::Result<()> {
    let accounts = Accounts::default();
    let database = accounts.clone();
    sim.process("billing", async move |bus| billing(database.clone(), bus).await).await?;
    for _ in 0..3 {
        sim.publish(Event::new("order.placed")).await?;
    }
    sim.idle().await?;
    let paid: u64 = accounts.lock().unwrap_or_else(|e| e.into_inner()).values().sum();
    assert_eq!(paid, 3);
    Ok(())
}

fn simulations() {
    let run = || Simulation::new().seeds(200);
    let found: Option<Found> = run().try_run(async |sim| nobody_pays_twice(sim, adds).await).err();
    let found = found.map(|found| (found.faults > 0, found.repeats));
    println!("`adds`: found with a fault, and again from its seed: {found:?}");
    let passed = run().try_run(async |sim| nobody_pays_twice(sim, keeps).await);
    println!("`keeps`: {} seeds passed", passed.map(|passed| passed.seeds).unwrap_or_default());
}

fn main() -> railbus::Result<()> {
    testing::in_virtual_time(a_charge_is_tried_again())?;
    testing::in_virtual_time(an_answer_is_lost())?;
    simulations();
    Ok(())
}
