//! G6: publishers and a group at once, end to end; also while a transaction is held open.

use super::{consumed::count, published::publish_all};
use crate::{
    order::bytes,
    raw::Raw,
    store::{bus, connect, runtime, server, timed},
};
use harness::{Contender, Failed, Goal, Result, Row, Samples, Sheet, Timed};
use railbus_testbed::{Database, Postgres};
use std::sync::atomic::Ordering::Relaxed;
use tokio_postgres::Client;

const EVENTS: u64 = 100_000;

/// How many events a slope is measured over, in how many parts.
const PARTS: u64 = 10;

pub(crate) fn measure(sheet: &mut Sheet) -> Result<()> {
    ends(sheet, "G6", "64 publishers and a group at once", false)
}

pub(crate) fn held(sheet: &mut Sheet) -> Result<()> {
    ends(sheet, "G6-held", "G6 while a transaction is held open", true)
}

fn ends(sheet: &mut Sheet, id: &'static str, work: &'static str, hold: bool) -> Result<()> {
    let server = server()?;
    let base = Contender::base("raw, both in 100s", |times| raw(&server, times));
    let subject = Contender::subject("railbus, end to end", |times| railbus(&server, times, hold));
    let row = Row::new(id, work, Goal::Rate(0.8));
    sheet.measure(row.with(base.times(EVENTS)).with(subject.times(EVENTS)))
}

/// One connection inserts, another claims and deletes.
fn raw(server: &Postgres, times: u64) -> Result<Timed> {
    let (database, body) = (server.database()?, bytes(times)?);
    runtime()?.block_on(async {
        let url = database.url("postgres");
        Raw::make(&url).await?;
        let (publisher, consumer) = (Raw::open(&url).await?, Raw::open(&url).await?);
        timed(async {
            let publishing = tokio::spawn(async move { publisher.insert(times, &body).await });
            let mut arrived = 0;
            while arrived < times {
                arrived += consumer.consume(|_| Ok(())).await?;
            }
            publishing.await??;
            Ok(arrived)
        })
    })
}

/// Holds a transaction open that has written and has a snapshot, as a report that takes long.
async fn hold(database: &Database<'_>) -> Result<Client> {
    let client = connect(&database.url("postgres")).await?;
    client.batch_execute("CREATE TABLE IF NOT EXISTS other (n int)").await?;
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    client.batch_execute("INSERT INTO other VALUES (1)").await?;
    Ok(client)
}

fn railbus(server: &Postgres, times: u64, holds: bool) -> Result<Timed> {
    let database = server.database()?;
    runtime()?.block_on(async {
        let held = if holds { Some(hold(&database).await?) } else { None };
        let bus = bus(&database.url("postgres-queue")).await?;
        let arrived = count(&bus).await?;
        let timed = timed(async {
            publish_all(&bus, times).await?;
            bus.idle().await?;
            Ok(arrived.load(Relaxed))
        })?;
        bus.close().await?;
        drop(held);
        Ok::<_, Failed>(timed)
    })
}

pub(crate) fn slope(sheet: &mut Sheet) -> Result<()> {
    sloped(sheet, "G6-slope", "the last tenth of many events beside the first", false)
}

pub(crate) fn slope_held(sheet: &mut Sheet) -> Result<()> {
    sloped(sheet, "G6-slope-held", "G6-slope while a transaction is held open", true)
}

/// Measures the tenths of a long run; `RAILBUS_BENCH_EVENTS` says how long (default 1,000,000).
fn sloped(sheet: &mut Sheet, id: &'static str, work: &'static str, holds: bool) -> Result<()> {
    let asked = std::env::var("RAILBUS_BENCH_EVENTS").ok();
    let events = asked.map_or(Ok(1_000_000), |text| text.parse::<u64>())?;
    let (server, part) = (server()?, events / PARTS);
    let database = server.database()?;
    let parts = runtime()?.block_on(async {
        let held = if holds { Some(hold(&database).await?) } else { None };
        let url = format!("{}?retention=1s", database.url("postgres-queue"));
        let bus = bus(&url).await?;
        let arrived = count(&bus).await?;
        let mut parts = Vec::new();
        for done in 1..=PARTS {
            let timed = timed(async {
                publish_all(&bus, part).await?;
                bus.idle().await?;
                Ok(part)
            })?;
            parts.push(timed.elapsed.as_nanos() as f64 / part as f64);
            if arrived.load(Relaxed) != done * part {
                return Err("an event is missing, or came twice".into());
            }
        }
        bus.close().await?;
        drop(held);
        Ok::<_, Failed>(parts)
    })?;
    let (first, last) = (vec![parts[0]; 5], vec![parts[parts.len() - 1]; 5]);
    let row = Row::new(id, work, Goal::Rate(0.9));
    let row = row.told(Samples::base("the first tenth", first));
    sheet.measure(row.told(Samples::subject("the last tenth", last)))
}
