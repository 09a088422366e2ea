//! G2: 64 publishers, each told when its event is confirmed, to one listener.

use crate::{
    order::{Order, TYPE, bare, event},
    raw::{Raw, STATEMENT, listen},
    server::{bus, runtime},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, Payload};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};
use tokio::sync::Notify;

const PUBLISHERS: u64 = 64;
const EVENTS: u64 = 50_000;

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    let base = Contender::base("pg_notify, 100 a statement, bare", raw);
    let subject = Contender::subject("railbus, publish to handler", railbus);
    let row = Row::new("G2", "64 publishers, confirmed, to 1 listener", Goal::Rate(0.4));
    sheet.measure(row.with(base.times(EVENTS)).with(subject.times(EVENTS)))
}

fn raw(times: u64) -> Result<Timed> {
    let runtime = runtime()?;
    let (raw, (_client, mut told)) =
        runtime.block_on(async { Ok::<_, Failed>((Raw::open().await?, listen().await?)) })?;
    harness::timed(|| {
        runtime.block_on(async {
            let sending = tokio::spawn(async move {
                for first in (0..times).step_by(STATEMENT as usize) {
                    let part = first..(first + STATEMENT).min(times);
                    raw.notify_all(&part.map(bare).collect::<Result<Vec<_>>>()?).await?;
                }
                Ok::<_, Failed>(())
            });
            let mut arrived = 0;
            while arrived < times {
                told.recv().await.ok_or("the listener ended")?;
                arrived += 1;
            }
            sending.await??;
            Ok(arrived)
        })
    })
}

fn railbus(times: u64) -> Result<Timed> {
    let runtime = runtime()?;
    let (arrived, all) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (count, tell) = (Arc::clone(&arrived), Arc::clone(&all));
    let (bus, ear) = runtime.block_on(async {
        let (bus, ear) = (bus().await?, bus().await?);
        let handler = move |order: Payload<Order>| {
            assert!(order.number < times);
            if count.fetch_add(1, SeqCst) + 1 == times {
                tell.notify_one();
            }
        };
        ear.on(TYPE).run(handler).await?;
        Ok::<_, Failed>((bus, ear))
    })?;
    let timed = harness::timed(|| {
        runtime.block_on(async {
            publish_all(&bus, times).await?;
            all.notified().await;
            Ok(arrived.load(SeqCst))
        })
    })?;
    runtime.block_on(async {
        bus.close().await?;
        ear.close().await
    })?;
    Ok(timed)
}

/// Publishes so many events from 64 tasks.
async fn publish_all(bus: &Bus, times: u64) -> Result<()> {
    let tasks: Vec<_> = (0..PUBLISHERS)
        .map(|task| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for number in (task..times).step_by(PUBLISHERS as usize) {
                    bus.publish(event(number)).await?;
                }
                Ok::<_, Failed>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
