//! RustStream's work, done a number of times, to be counted as `benches/counts` is:
//! `counted TIMES` publishes so many typed events to one handler that acks.

use ruststream::{Outgoing, memory::prelude::*};
use serde::{Deserialize, Serialize};
use std::{
    hint::black_box,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::{runtime::Builder, task::yield_now};

#[derive(Deserialize, Outgoing, Serialize)]
struct Order {
    id: u64,
    lines: u32,
}

/// How often the handler ran.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// How many events wait at most.
const WAITING: u64 = 256;

#[subscriber("orders")]
async fn handle(order: &Order) -> HandlerOutcome {
    HANDLED.store(HANDLED.load(Relaxed) + u64::from(order.lines == 2), Relaxed);
    HandlerOutcome::ack()
}

fn run(times: u64) -> harness::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let broker = MemoryBroker::new();
        let publisher = broker.publisher();
        let app = RustStream::new(AppInfo::new("counted", "0.0.0"));
        let app = app.with_broker(broker, |b| {
            b.include(handle);
        });
        let running = app.start().await?;
        for sent in 1..=times {
            let order = Order { id: black_box(7), lines: black_box(2) };
            publisher.message(&order).to("orders").publish().await?;
            if sent % WAITING == 0 || sent == times {
                while HANDLED.load(Relaxed) < sent {
                    yield_now().await;
                }
            }
        }
        running.shutdown().await?;
        Ok(())
    })
}

fn main() -> ExitCode {
    let Some(Ok(times)) = std::env::args().nth(1).map(|n| n.parse()) else {
        eprintln!("usage: counted TIMES");
        return ExitCode::from(2);
    };
    match run(times) {
        Ok(()) if HANDLED.load(Relaxed) == times => ExitCode::SUCCESS,
        Ok(()) => {
            eprintln!("{} handled instead of {times}", HANDLED.load(Relaxed));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
