//! RustStream: its service on its broker in memory, typed from publish to handler.

use crate::{
    arrivals::{arrive, arrived, counted},
    order::{Order, order},
};
use harness::{Contender, Result};
use ruststream::memory::{MemoryPublisher, prelude::*};
use tokio::{runtime::Runtime, task::yield_now};

/// How many events wait at most.
const WAITING: u64 = 256;

#[subscriber("orders")]
async fn handle(order: &Order) -> HandlerOutcome {
    if order.lines == 2 {
        arrive();
    }
    HandlerOutcome::ack()
}

/// Publishes to one handler that acks, on a runtime of the caller's kind.
pub(crate) fn publish(runtime: Runtime) -> Result<Contender<'static>> {
    let broker = MemoryBroker::new();
    let publisher = broker.publisher();
    let app = RustStream::new(AppInfo::new("bench", "0.0.0"));
    let app = app.with_broker(broker, |b| {
        b.include(handle);
    });
    let running = runtime.block_on(app.start())?;
    Ok(Contender::peer("RustStream, typed", move |times| {
        // As long as it publishes, its handlers run.
        let _running = &running;
        counted(|| runtime.block_on(send(&publisher, times)))
    }))
}

async fn send(publisher: &MemoryPublisher, times: u64) -> Result<()> {
    let before = arrived();
    for sent in 1..=times {
        publisher.message(&order()).to("orders").publish().await?;
        if sent % WAITING == 0 || sent == times {
            while arrived() - before < sent {
                yield_now().await;
            }
        }
    }
    Ok(())
}
