//! G3: from a notification to a handler, at 500 a second.

use crate::{
    order::{Order, TYPE, bare, event},
    raw::{Raw, listen},
    server::{bus, runtime},
};
use harness::{Failed, Goal, Result, Row, Samples, Sheet};
use railbus::Payload;
use rustix::time::{ClockId, clock_gettime};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How many events a round sends, and how far apart: 500 a second, whatever becomes of them.
const EVENTS: usize = 500;
const EVERY: Duration = Duration::from_millis(2);

fn clock() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    let rounds = sheet.settings().rounds;
    let (mut bare_times, mut bus_times) = (Vec::new(), Vec::new());
    runtime()?.block_on(async {
        let (raw, (_client, mut told)) = (Arc::new(Raw::open().await?), listen().await?);
        let (tell, mut arrived) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(text) = told.recv().await {
                let Ok(order) = serde_json::from_str::<Order>(&text) else { return };
                let _ = tell.send(clock() - order.number);
            }
        });
        let (publishing, ear) = (bus().await?, bus().await?);
        let (tell, mut handled) = unbounded_channel();
        let handler = move |order: Payload<Order>| {
            let _ = tell.send(clock().saturating_sub(order.number));
        };
        ear.on(TYPE).run(handler).await?;
        for _ in 0..rounds {
            let notify = || {
                let raw = Arc::clone(&raw);
                async move { raw.notify(&bare(clock())?).await }
            };
            paced(notify).await?;
            bare_times.push(median(&mut arrived).await?);
            let publish = || {
                let bus = publishing.clone();
                async move { bus.publish(event(clock())).await.map(drop).map_err(Failed::from) }
            };
            paced(publish).await?;
            bus_times.push(median(&mut handled).await?);
        }
        publishing.close().await?;
        ear.close().await?;
        Ok::<_, Failed>(())
    })?;
    let row = Row::new("G3", "publish to handler at 500/s, p50", Goal::Times(1.15));
    let row = row.told(Samples::base("pg_notify to a listener", bare_times));
    sheet.measure(row.told(Samples::subject("railbus, publish to handler", bus_times)))
}

/// Starts something at each tick, whether or not what came before has ended.
async fn paced<F>(mut work: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut ticks = tokio::time::interval(EVERY);
    let mut running = Vec::new();
    for _ in 0..EVENTS {
        ticks.tick().await;
        running.push(tokio::spawn(work()));
    }
    for one in running {
        one.await??;
    }
    Ok(())
}

/// Returns what half of a round's events took at most; all must have come.
async fn median(taken: &mut UnboundedReceiver<u64>) -> Result<f64> {
    let mut all = Vec::new();
    while all.len() < EVENTS {
        all.push(taken.recv().await.ok_or("the listener ended")? as f64);
    }
    all.sort_by(f64::total_cmp);
    Ok(all[EVENTS / 2])
}
