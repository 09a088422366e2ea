//! S1: 64 publishers, each told when its event is committed.

use crate::{
    order::{bytes, event},
    raw::Raw,
    store::{Place, Sync, runtime},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use railbus::Bus;
use rusqlite::Connection;

/// How many publish at once.
pub(crate) const PUBLISHERS: u64 = 64;
const EVENTS: u64 = 20_000;

pub(crate) fn full(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "S1", "64 publishers, each Ok after commit; FULL", Sync::Full)
}

pub(crate) fn normal(sheet: &mut Sheet) -> Result<()> {
    measure(sheet, "S1-normal", "64 publishers, each Ok after commit; NORMAL", Sync::Normal)
}

fn measure(sheet: &mut Sheet, id: &'static str, work: &'static str, sync: Sync) -> Result<()> {
    let base = Contender::base("raw, transactions of 100", |times| raw(sync, times));
    let subject = Contender::subject("railbus publish", |times| railbus(sync, times));
    let row = Row::new(id, work, Goal::Rate(0.6));
    sheet.measure(row.with(base.times(EVENTS)).with(subject.times(EVENTS)))
}

fn raw(sync: Sync, times: u64) -> Result<Timed> {
    let (place, body) = (Place::new()?, bytes(times)?);
    let mut raw = Raw::open(&place, sync)?;
    let timed = harness::timed(|| raw.insert(times, &body).map(|()| times))?;
    Ok(Timed { arrived: raw.count()?, ..timed })
}

fn railbus(sync: Sync, times: u64) -> Result<Timed> {
    let (place, runtime) = (Place::new()?, runtime()?);
    let timed = runtime.block_on(async {
        let bus = place.bus(sync).await?;
        let runtime = tokio::runtime::Handle::current();
        let publish = || tokio::task::block_in_place(|| runtime.block_on(publish_all(&bus, times)));
        let timed = harness::timed(publish)?;
        bus.close().await?;
        Ok::<_, Failed>(timed)
    })?;
    let stored = Connection::open(place.file())?;
    let stored: i64 = stored.query_row("SELECT count(*) FROM events", [], |row| row.get(0))?;
    match stored.unsigned_abs() == timed.arrived {
        true => Ok(timed),
        false => Err(format!("{} told, {stored} stored", timed.arrived).into()),
    }
}

/// Publishes so many events from 64 tasks; returns how many were confirmed.
pub(crate) async fn publish_all(bus: &Bus, times: u64) -> Result<u64> {
    let tasks: Vec<_> = (0..PUBLISHERS)
        .map(|task| {
            let bus = bus.clone();
            tokio::spawn(async move {
                let mine = (task..times).step_by(PUBLISHERS as usize);
                let mut confirmed = 0;
                for number in mine {
                    bus.publish(event(number)).await?;
                    confirmed += 1;
                }
                Ok::<u64, Failed>(confirmed)
            })
        })
        .collect();
    let mut confirmed = 0;
    for task in tasks {
        confirmed += task.await??;
    }
    Ok(confirmed)
}
