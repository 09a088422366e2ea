//! I8: a group in memory, from publish to settled.

use super::emitted::TYPE;
use crate::{
    arrivals::{arrive, arrived, counted},
    order::{Order, order},
    peers::ruststream,
};
use harness::{Contender, Goal, Result, Row, Sheet};
use railbus::{Bus, Event, Payload};
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::yield_now,
};

/// How many events wait at most, everywhere.
const WAITING: usize = 1024;

pub(crate) fn one(sheet: &mut Sheet) -> Result<()> {
    let on_two = || Ok(Builder::new_multi_thread().worker_threads(2).enable_all().build()?);
    let row =
        Row::new("I8", "a group in memory, 1 to 1, typed, acked; 2 threads", Goal::Times(1.5));
    sheet.measure(contenders(row, &on_two)?)?;
    let on_one = || Ok(Builder::new_current_thread().enable_all().build()?);
    let row = Row::new("I8", "a group in memory, 1 to 1, typed, acked; 1 thread", Goal::Times(1.5));
    sheet.measure(contenders(row, &on_one)?)
}

fn contenders(row: Row<'static>, runtime: &dyn Fn() -> Result<Runtime>) -> Result<Row<'static>> {
    let row = row.with(channel(runtime()?)).with(group(runtime()?)?);
    Ok(row.with(ruststream::publish(runtime()?)?))
}

fn count(order: &Order) {
    if order.lines == 2 {
        arrive();
    }
}

/// Waits until so many have arrived since.
async fn until(before: u64, times: u64) {
    while arrived() - before < times {
        yield_now().await;
    }
}

/// A task that takes orders from a bounded channel.
fn channel(runtime: Runtime) -> Contender<'static> {
    let (sender, mut receiver) = mpsc::channel::<Order>(WAITING);
    runtime.spawn(async move {
        while let Some(order) = receiver.recv().await {
            count(&order);
        }
    });
    Contender::base("tokio mpsc, bounded", move |times| {
        let before = arrived();
        counted(|| {
            runtime.block_on(async {
                for _ in 0..times {
                    sender.send(order()).await?;
                }
                until(before, times).await;
                Ok(())
            })
        })
    })
}

fn group(runtime: Runtime) -> Result<Contender<'static>> {
    let bus = runtime.block_on(async {
        let bus = Bus::open(format!("memory:?queue={WAITING}")).await?;
        bus.on(TYPE).group("g").run(async |order: Payload<Order>| count(&order)).await?;
        Ok::<_, harness::Failed>(bus)
    })?;
    Ok(Contender::subject("railbus, publish to settled", move |times| {
        counted(|| {
            runtime.block_on(async {
                for _ in 0..times {
                    bus.publish(Event::new(TYPE).payload(order())).await?;
                }
                bus.idle().await?;
                Ok(())
            })
        })
    }))
}
