//! Simulations: planted bugs are found, the same seed goes the same way, and what passes passes.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used)]

use railbus::{
    Event, Retry,
    testing::{Found, Sim, Simulation, simulate},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::yield_now;

/// What is kept elsewhere, such as in a database: it outlives processes.
type Accounts = Arc<Mutex<BTreeMap<String, u64>>>;

/// Seeds that find each of the planted bugs.
const SEEDS: u64 = 200;

async fn pay(sim: &Sim, orders: u64) -> railbus::Result<()> {
    for n in 0..orders {
        sim.publish(Event::new("order.placed").id(format!("o-{n}")).payload(n)).await?;
    }
    sim.idle().await
}

/// A handler that reads, waits, and writes what it has read.
async fn reads_then_writes(sim: Sim) -> railbus::Result<()> {
    let accounts = Accounts::default();
    for name in ["a", "b"] {
        let accounts = accounts.clone();
        let setup = async move |bus: railbus::Bus| {
            let accounts = accounts.clone();
            let add = async move |_: Event| {
                let sum = accounts.lock().unwrap().get("sum").copied().unwrap_or(0);
                yield_now().await;
                accounts.lock().unwrap().insert("sum".into(), sum + 1);
            };
            bus.on("order.placed").group("sums").limit(1).run(add).await?;
            Ok(())
        };
        sim.process(name, setup).await?;
    }
    pay(&sim, 4).await?;
    assert_eq!(accounts.lock().unwrap()["sum"], 4);
    Ok(())
}

/// A handler that counts what it is delivered, however often that is.
async fn counts_twice(sim: Sim) -> railbus::Result<()> {
    let (accounts, of) = (Accounts::default(), Accounts::default());
    let kept = of.clone();
    let setup = async move |bus: railbus::Bus| {
        let kept = kept.clone();
        let add = async move |_: Event| {
            *kept.lock().unwrap().entry("sum".into()).or_default() += 1;
        };
        bus.on("order.placed").group("sums").run(add).await?;
        Ok(())
    };
    sim.process("sums", setup).await?;
    pay(&sim, 4).await?;
    accounts.lock().unwrap().insert("sum".into(), 4);
    assert_eq!(*of.lock().unwrap(), *accounts.lock().unwrap());
    Ok(())
}

/// A handler that takes what it has begun for done.
async fn begins_and_forgets(sim: Sim) -> railbus::Result<()> {
    let (begun, charged) =
        (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::<Mutex<u64>>::default());
    let of = (begun.clone(), charged.clone());
    let setup = async move |bus: railbus::Bus| {
        let (begun, charged) = of.clone();
        let charge = async move |event: Event| {
            if !begun.lock().unwrap().insert(event.id().into()) {
                return;
            }
            yield_now().await;
            *charged.lock().unwrap() += 1;
        };
        bus.on("order.placed").group("billing").run(charge).await?;
        Ok(())
    };
    sim.process("billing", setup).await?;
    pay(&sim, 4).await?;
    assert_eq!(*charged.lock().unwrap(), 4);
    Ok(())
}

fn in_order() -> Simulation {
    Simulation::new().seeds(SEEDS).crashes(false).duplicates(false).outages(false)
}

/// Faults alone use up no group's tries, unless it is said.
#[test]
fn by_faults_alone_nothing_becomes_a_dead_letter() {
    let body = async |sim: Sim| -> railbus::Result<()> {
        for name in ["a", "b"] {
            let setup = async |bus: railbus::Bus| {
                let handle = async |_: Event| yield_now().await;
                bus.on("order.placed").group("g").run(handle).await.map(drop)
            };
            sim.process(name, setup).await?;
        }
        pay(&sim, 4).await?;
        let letters = sim.bus().keeper()?.letters(&Default::default()).await?;
        assert!(letters.is_empty(), "{letters:?}");
        Ok(())
    };
    let passed = Simulation::new().seeds(SEEDS).try_run(body);
    assert!(passed.unwrap_or_else(|found| panic!("{found}")).faults > 100);
    assert!(Simulation::new().seeds(SEEDS).tries_lost(50).try_run(body).is_err());
}

/// Asserts that what was found happens again from what it says of itself.
fn assert_replays(found: &Found, again: impl Fn(&str) -> Found) {
    assert!(found.repeats, "{found}");
    let again = again(&found.replay());
    assert_eq!((&again.message, &again.history), (&found.message, &found.history));
    assert_eq!((again.seed, again.faults), (found.seed, found.faults));
    assert!(found.to_string().contains(&format!("RAILBUS_SEED={}", found.replay())));
}

#[test]
fn a_read_that_others_overtake_is_found_and_replayed() {
    let found = in_order().try_run(reads_then_writes).unwrap_err();
    assert!(found.message.contains("assertion `left == right` failed"), "{found}");
    assert!(found.message.starts_with(file!()), "{found}");
    assert_eq!(found.faults, 0, "it takes none: {found}");
    assert_replays(&found, |seed| in_order().replay(seed).try_run(reads_then_writes).unwrap_err());
}

#[test]
fn a_handler_that_is_not_idempotent_is_found_with_one_fault() {
    in_order().run(counts_twice);
    let simulation = || Simulation::new().seeds(SEEDS);
    let found = simulation().try_run(counts_twice).unwrap_err();
    assert!(found.faults > 0 && found.history.iter().any(|line| line.contains(" ! ")), "{found}");
    assert_replays(&found, |seed| simulation().replay(seed).try_run(counts_twice).unwrap_err());
    // With fewer faults it passes.
    let fewer = format!("{}/{}", found.seed, found.faults - 1);
    assert!(simulation().replay(&fewer).try_run(counts_twice).is_ok());
}

#[test]
fn a_handler_that_dies_in_the_middle_is_found() {
    in_order().run(begins_and_forgets);
    let simulation = || in_order().crashes(true);
    let found = simulation().try_run(begins_and_forgets).unwrap_err();
    let died = |line: &String| line.contains("! the process dies");
    assert!(found.history.iter().any(died), "{found}");
    assert_replays(&found, |seed| {
        simulation().replay(seed).try_run(begins_and_forgets).unwrap_err()
    });
}

/// Handlers that do it right: whole turns, by id, before anything is said to be done.
async fn does_it_right(sim: Sim) -> railbus::Result<()> {
    let (charged, shipped) = (Accounts::default(), Accounts::default());
    for name in ["a", "b", "c"] {
        let of = (charged.clone(), shipped.clone());
        let setup = async move |bus: railbus::Bus| {
            let (charged, shipped) = of.clone();
            let charge = async move |event: Event, bus: railbus::Bus| {
                yield_now().await;
                charged.lock().unwrap().insert(event.id().into(), 1);
                let next = Event::new("order.charged").id(format!("{}-charged", event.id()));
                bus.publish(next).await.map(drop)
            };
            let ship = async move |event: Event| {
                // sleep: the work itself, longer than a lease, in the simulation's time.
                tokio::time::sleep(Duration::from_secs(90)).await;
                shipped.lock().unwrap().insert(event.id().into(), 1);
            };
            let often = || Retry::attempts(50).backoff(Duration::from_millis(10)).jitter(true);
            let on = |of: &str, group: &str| bus.on(of).group(group).retry(often());
            on("order.placed", "billing").ordered_by_key().run(charge).await?;
            on("order.charged", "shipping").run(ship).await?;
            Ok(())
        };
        sim.process(name, setup).await?;
    }
    // New ids are the seed's, too.
    sim.note(railbus::id::new_id());
    let orders = sim.pick(1..6);
    pay(&sim, orders).await?;
    sim.idle().await?;
    assert_eq!(charged.lock().unwrap().len() as u64, orders);
    assert_eq!(shipped.lock().unwrap().len() as u64, orders);
    Ok(())
}

#[test]
fn what_is_right_passes_with_all_faults() {
    let passed = Simulation::new().seeds(SEEDS / 2).tries_lost(20).try_run(does_it_right);
    let passed = passed.unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(passed.seeds, SEEDS / 2);
    assert!(passed.faults > 1000, "{} faults", passed.faults);
}

#[test]
fn the_same_seed_gives_the_same_history_and_another_gives_another() {
    let of = |seed: u64| {
        let run = Simulation::new().replay(&seed.to_string()).try_run(does_it_right);
        run.unwrap_or_else(|found| panic!("{found}")).history
    };
    let mut all = BTreeSet::new();
    for seed in 0..20 {
        let history = of(seed);
        assert_eq!(history, of(seed), "seed {seed}");
        all.insert(history);
    }
    // Some seeds have little to decide.
    assert!(all.len() > 15, "{}", all.len());
}

#[test]
fn a_seed_is_replayed_from_the_environment() {
    if env::var("RAILBUS_SEED").is_ok() {
        return simulate(counts_twice);
    }
    let found = Simulation::new().try_run(counts_twice).unwrap_err();
    let run = |seed: &str| {
        let name = "a_seed_is_replayed_from_the_environment";
        let mut test = Command::new(env::current_exe().unwrap());
        let out = test.args(["--exact", name]).env("RAILBUS_SEED", seed).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        (out.status.success(), text + &String::from_utf8_lossy(&out.stderr))
    };
    let (passed, said) = run(&found.replay());
    assert!(!passed && said.contains(&found.to_string()), "{said}\n-- wanted:\n{found}");
    let (passed, said) = run("seventeen");
    assert!(!passed && said.contains("RAILBUS_SEED is `seventeen`"), "{said}");
}

#[test]
fn what_has_chance_of_its_own_is_told() {
    let found = in_order().try_run(async |sim| {
        sim.note(format!("{:?}", std::time::Instant::now()));
        assert_eq!(sim.seed(), u64::MAX, "it fails, and its history is never the same");
    });
    let found = found.unwrap_err();
    assert!(!found.repeats && found.to_string().contains("not `biased`"), "{found}");
}

#[test]
fn what_never_ends_ends() {
    let limit = Duration::from_secs(3600);
    let found = in_order().limit(limit).try_run(async |_| std::future::pending::<()>().await);
    let found = found.unwrap_err();
    assert_eq!(found.message, "it is still running after 3600s of its time");
    let found = in_order().limit(limit).try_run(async |sim| {
        sim.process("a", async |bus| {
            bus.on("a").group("g").run(async |_: Event| std::future::pending::<()>().await).await?;
            Ok(())
        })
        .await?;
        sim.publish(Event::new("a")).await?;
        sim.idle().await
    });
    assert!(found.unwrap_err().message.starts_with("it is still running"));
}

#[test]
fn what_the_body_returns_is_why_it_failed() {
    let found = in_order().try_run(async |_| Err::<(), _>("nothing to do")).unwrap_err();
    assert_eq!((found.seed, &*found.message), (0, "nothing to do"));
    let refused = in_order().try_run(async |sim| {
        sim.process("a", async |bus| bus.on("").group("").run(|_: &Event| {}).await.map(drop)).await
    });
    assert!(refused.is_err());
}

#[tokio::test]
#[should_panic(expected = "call it from a plain #[test] fn")]
async fn inside_of_a_runtime_it_says_where_it_belongs() {
    simulate(async |_| ());
}
