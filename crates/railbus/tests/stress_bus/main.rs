//! A bus from many threads at once: publishers, subscriptions that come and go, cancels inside and
//! outside of handlers, handlers that fail, panic and publish, and a close at a random moment.
//! What happened is written down in monotonic time, and a checker looks for what must not be in it.
//!
//! `RAILBUS_STRESS=1` makes it many rounds, `RAILBUS_SEED` repeats their plan.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broadcasts;
mod check;
mod doctored;
mod groups;
mod history;
mod oracle;
mod random;
mod scene;

// What the oracles of the conformance suite name as the library's.
use railbus::{accounts, backend, commons, error, event, predicate};
use std::time::{Duration, Instant};

/// Returns the seed, and how many rounds of so many there are to be.
fn plan(short: u64, full: u64) -> (u64, u64) {
    let rounds = if std::env::var_os("RAILBUS_STRESS").is_some() { full } else { short };
    let given = std::env::var("RAILBUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = given.unwrap_or(clock | 1);
    eprintln!("seed {seed}, {rounds} rounds");
    (seed, rounds)
}

/// Runs a round on threads of its own; afterwards no task may be left.
fn on_threads(round: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(round);
    // Whoever still holds the bus, closing it ends all that it began.
    wait_until("no task is left", || runtime.metrics().num_alive_tasks() == 0);
}

/// Waits for what nothing tells of; in vain it fails.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Keeps panics quiet that are meant.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let said = panic.payload().downcast_ref::<&str>();
            if said.is_none_or(|said| *said != scene::ON_PURPOSE) {
                tell(panic);
            }
        }));
    });
}
