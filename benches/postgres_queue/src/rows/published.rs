//! G4: 64 publishers, each told when its event is committed.

use crate::{
    order::{bytes, event},
    raw::Raw,
    store::{bus, runtime, server, timed},
};
use harness::{Contender, Failed, Goal, Result, Row, Sheet, Timed};
use railbus::{Bus, backend::Outgoing};
use railbus_testbed::Postgres;

/// How many publish at once.
pub(crate) const PUBLISHERS: u64 = 64;
const EVENTS: u64 = 100_000;

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    let server = server()?;
    let base = Contender::base("raw, insert in 100s", |times| raw(&server, times));
    let whole =
        Contender::peer("railbus, 100 a call", |times| railbus(&server, times, in_hundreds));
    let subject =
        Contender::subject("railbus publish", |times| railbus(&server, times, publish_all));
    let row = Row::new("G4", "64 publishers, each Ok after commit", Goal::Rate(0.8));
    let row = row.with(base.times(EVENTS)).with(whole.times(EVENTS));
    sheet.measure(row.with(subject.times(EVENTS)))
}

fn raw(server: &Postgres, times: u64) -> Result<Timed> {
    let (database, body) = (server.database()?, bytes(times)?);
    let timed = runtime()?.block_on(async {
        Raw::make(&database.url("postgres")).await?;
        let raw = Raw::open(&database.url("postgres")).await?;
        timed(async { raw.insert(times, &body).await.map(|()| times) })
    })?;
    let stored: u64 = database.psql("SELECT count(*) FROM raw")?.trim().parse()?;
    Ok(Timed { arrived: stored, ..timed })
}

fn railbus(
    server: &Postgres,
    times: u64,
    publish: impl AsyncFn(&Bus, u64) -> Result<u64>,
) -> Result<Timed> {
    let database = server.database()?;
    let timed = runtime()?.block_on(async {
        let bus = bus(&database.url("postgres-queue")).await?;
        let timed = timed(publish(&bus, times))?;
        bus.close().await?;
        Ok::<_, Failed>(timed)
    })?;
    let stored: u64 = database.psql("SELECT count(*) FROM railbus.events")?.trim().parse()?;
    match stored == timed.arrived {
        true => Ok(timed),
        false => Err(format!("{} told, {stored} stored", timed.arrived).into()),
    }
}

/// Publishes so many events from one task, 100 in a statement: what the statement itself takes.
async fn in_hundreds(bus: &Bus, times: u64) -> Result<u64> {
    let mut confirmed = 0;
    while confirmed < times {
        let part: Vec<_> =
            (confirmed..times.min(confirmed + 100)).map(|n| Outgoing::from(event(n))).collect();
        for stored in bus.publish_all(&part).await {
            stored?;
            confirmed += 1;
        }
    }
    Ok(confirmed)
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
