//! S3: publishers and a group at once, end to end.

use super::{consumed::count, published::publish_all};
use crate::{
    order::bytes,
    raw::Raw,
    store::{Place, Sync, runtime},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use std::sync::atomic::Ordering::Relaxed;

const EVENTS: u64 = 20_000;

pub(crate) fn full(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "S3", "64 publishers and a group at once; FULL", Sync::Full)
}

pub(crate) fn normal(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "S3-normal", "64 publishers and a group at once; NORMAL", Sync::Normal)
}

fn measure(sheet: &mut Sheet, id: &'static str, work: &'static str, sync: Sync) -> Result<()> {
    let base = Contender::base("raw, both in 100s", |times| raw(sync, times));
    let subject = Contender::subject("railbus, end to end", |times| railbus(sync, times));
    let row = Row::new(id, work, Goal::Rate(0.7));
    sheet.measure(row.with(base.times(EVENTS)).with(subject.times(EVENTS)))
}

/// Inserts 100, claims and deletes them, and so on: one connection is faster than two that wait
/// for each other's lock.
fn raw(sync: Sync, times: u64) -> Result<Timed> {
    let (place, body) = (Place::new()?, bytes(times)?);
    let mut raw = Raw::open(&place, sync)?;
    harness::timed(|| {
        let mut arrived = 0;
        while arrived < times {
            raw.insert(100.min(times - arrived), &body)?;
            arrived += raw.consume(|_| Ok(()))?;
        }
        Ok(arrived)
    })
}

fn railbus(sync: Sync, times: u64) -> Result<Timed> {
    let (place, runtime) = (Place::new()?, runtime()?);
    runtime.block_on(async {
        let bus = place.bus(sync).await?;
        let arrived = count(&bus).await?;
        let runtime = tokio::runtime::Handle::current();
        let both = || {
            tokio::task::block_in_place(|| {
                runtime.block_on(async {
                    publish_all(&bus, times).await?;
                    bus.idle().await?;
                    Ok(arrived.load(Relaxed))
                })
            })
        };
        let timed = harness::timed(both)?;
        bus.close().await?;
        Ok::<_, Failed>(timed)
    })
}
